"""The table of settings in `docs/stack/settings.md`, made of `template/.env.example`.

A test of the rendered service holds `.env.example` equal to the settings classes. After a change of
the settings write the table anew with `python -m tests.settings_page`.
"""

import re
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
PAGE = REPOSITORY / "docs" / "stack" / "settings.md"
EXAMPLE = REPOSITORY / "template" / ".env.example"

BEGIN, END = "<!-- settings -->\n", "<!-- /settings -->"


def settings() -> dict[str, str]:
    """Names of all settings of the core with the lines that explain them."""
    return {name: explanation for _, name, _, explanation in _entries()}


def table() -> str:
    """The tables in Markdown, one for each group."""
    lines: list[str] = []
    group = ""
    for heading, name, default, explanation in _entries():
        if heading != group:
            lines += ["", f"### {heading}", "", "| setting | default | |", "|---|---|---|"]
            group = heading
        shown = f"`{default}`" if default else ""
        escaped = explanation.replace("<", "&lt;").replace("_", "\\_")
        lines.append(f"| `{name}` | {shown} | {escaped} |")
    return "\n".join([*lines[1:], ""])


def written_table() -> str:
    """What the page holds now."""
    return PAGE.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]


def _entries() -> Iterator[tuple[str, str, str, str]]:
    """Group, name, default and explanation of each setting."""
    group = ""
    text = EXAMPLE.read_text(encoding="utf-8")
    for block in text.split("\n\n"):
        lines = block.strip().splitlines()
        if heading := re.fullmatch(r"# --- (.+) ---", lines[0]):
            group = heading[1]
        elif setting := re.fullmatch(r"#?([A-Z_]+)=(.*)", lines[-1]):
            explanation = " ".join(line.removeprefix("# ") for line in lines[:-1])
            yield group, setting[1], setting[2], explanation


def main() -> None:
    """Write the page's table anew."""
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}{table()}{END}{rest.partition(END)[2]}", encoding="utf-8")


if __name__ == "__main__":
    main()
