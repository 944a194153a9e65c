"""The tables of settings in the documentation, made of `template/.env.example.jinja`.

The core's stands in `docs/stack/settings.md`, an extension's in `docs/extensions/<name>.md`. A test
of the rendered service holds `.env.example` equal to the settings classes. After a change of the
settings write the tables anew with `python -m tests.settings_page`.
"""

import re
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
PAGE = REPOSITORY / "docs" / "stack" / "settings.md"
EXAMPLE = REPOSITORY / "template" / ".env.example.jinja"

BEGIN, END = "<!-- settings -->\n", "<!-- /settings -->"

BLOCK = re.compile(
    r"^{% if '(\w+)' in extensions %}\n(.*?)^{% endif %}\n", re.MULTILINE | re.DOTALL
)


def settings() -> dict[str, str]:
    """Names of all settings, the extensions' included, with the lines that explain them."""
    return {name: explanation for block in _blocks().values() for _, name, _, explanation in block}


def tables() -> dict[Path, str]:
    """The tables in Markdown, one for each group of settings, by the page that they stand in."""
    return {page: _table(entries) for page, entries in _blocks().items()}


def written_table(page: Path) -> str:
    """What a page holds now."""
    return page.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]


def _blocks() -> dict[Path, list[tuple[str, str, str, str]]]:
    text = EXAMPLE.read_text(encoding="utf-8")
    blocks = {PAGE: list(_entries(BLOCK.sub("", text)))}
    for extension, block in BLOCK.findall(text):
        blocks[REPOSITORY / "docs" / "extensions" / f"{extension}.md"] = list(_entries(block))
    return blocks


def _table(entries: list[tuple[str, str, str, str]]) -> str:
    lines: list[str] = []
    group = ""
    for heading, name, default, explanation in entries:
        if heading != group:
            lines += ["", f"### {heading}", "", "| setting | default | |", "|---|---|---|"]
            group = heading
        shown = f"`{default}`" if default else ""
        escaped = explanation.replace("<", "&lt;").replace("_", "\\_")
        lines.append(f"| `{name}` | {shown} | {escaped} |")
    return "\n".join([*lines[1:], ""])


def _entries(text: str) -> Iterator[tuple[str, str, str, str]]:
    """Group, name, default and explanation of each setting."""
    group = ""
    for block in text.strip("\n").split("\n\n"):
        lines = block.strip().splitlines()
        if heading := re.fullmatch(r"# --- (.+) ---", lines[0]):
            group = heading[1]
        elif setting := re.fullmatch(r"#?([A-Z][A-Z0-9_]*)=(.*)", lines[-1]):
            explanation = " ".join(line.removeprefix("# ") for line in lines[:-1])
            yield group, setting[1], setting[2], explanation


def main() -> None:
    """Write the pages' tables anew."""
    for page, table in tables().items():
        text = page.read_text(encoding="utf-8")
        before, _, rest = text.partition(BEGIN)
        page.write_text(f"{before}{BEGIN}{table}{END}{rest.partition(END)[2]}", encoding="utf-8")


if __name__ == "__main__":
    main()
