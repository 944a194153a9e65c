"""The table of checks in `docs/stack/doctor.md`, made of the calls that register them.

After a change of the checks write it anew with `python -m tests.doctor_page`.
"""

import ast
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
PAGE = REPOSITORY / "docs" / "stack" / "doctor.md"
CHECKS = REPOSITORY / "template" / "kit" / "doctor"
NEEDS = ["environment", "settings", "code", "application", "database", "redis"]
"""The order of the report."""

BEGIN, END = "<!-- checks -->\n", "<!-- /checks -->"


def table() -> str:
    """Each check with what it asks, in Markdown."""
    lines = ["| check | passes where | |", "|---|---|---|"]
    found = []
    for path in sorted(CHECKS.glob("_*.py")):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call) and ast.unparse(call.func) == "check":
                name, asks, *need = map(ast.literal_eval, call.args)
                mark = "P" if "production" in {each.arg for each in call.keywords} else ""
                row = f"| `{name}` | {asks} | {mark} |"
                found.append((NEEDS.index(*need or ["settings"]), call.lineno, row))
    return "\n".join([*lines, *(row for *_, row in sorted(found)), ""])


def written_table() -> str:
    """What the page holds now."""
    return PAGE.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]


if __name__ == "__main__":
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(text.replace(written_table(), table()), encoding="utf-8")
