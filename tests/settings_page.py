"""The tables of settings in the documentation, made of each `.env.example`.

The core's stands in `docs/stack/settings.md`, an extension's in `docs/extensions/<name>.md`. Tests
of the rendered service hold `.env.example` equal to the settings classes. After a change of the
settings write the tables anew with `python -m tests.settings_page`.
"""

import re
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
PAGE = REPOSITORY / "docs" / "stack" / "settings.md"
EXAMPLE = REPOSITORY / "template" / ".env.example"

BEGIN, END = "<!-- settings -->\n", "<!-- /settings -->"


def settings() -> dict[str, str]:
    """Names of all settings, the extensions' included, with the lines that explain them."""
    return {
        name: explanation for entries in _settings().values() for _, name, _, explanation in entries
    }


def tables() -> dict[Path, str]:
    """The tables in Markdown, one for each group of settings, by the page that they stand in."""
    return {page: _table(entries) for page, entries in _settings().items()}


def written_table(page: Path) -> str:
    """What a page holds now."""
    return page.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]


def _settings() -> dict[Path, list[tuple[str, str, str, str]]]:
    """Group, name, default and explanation of each setting, by the page that lists it."""
    found = {PAGE: list(_entries(EXAMPLE))}
    for example in sorted((REPOSITORY / "extensions_catalog").glob("[!_]*/.env.example")):
        page = REPOSITORY / "docs" / "extensions" / f"{example.parent.name}.md"
        found[page] = list(_entries(example))
    return found


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


def _entries(example: Path) -> Iterator[tuple[str, str, str, str]]:
    group = ""
    for block in example.read_text(encoding="utf-8").split("\n\n"):
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
