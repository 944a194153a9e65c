"""The documents of this repository and of what it renders, taken apart for the tests."""

import re
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]

PAGES = sorted((REPOSITORY / "docs").rglob("*.md"))
OF_THE_SERVICE = [
    REPOSITORY / "template" / "README.md.jinja",
    REPOSITORY / "template" / "AGENTS.md.jinja",
    REPOSITORY / "template" / "tests" / "README.md",
    *sorted((REPOSITORY / "extensions_catalog").glob("*/README.md")),
]
DOCUMENTS = [REPOSITORY / "README.md", *PAGES, *OF_THE_SERVICE]
GETTING_STARTED = REPOSITORY / "docs" / "getting-started.md"

BLOCK = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)


def name_of(path: Path) -> str:
    """What a test report calls a document."""
    return path.relative_to(REPOSITORY).as_posix()


def prose_of(path: Path) -> str:
    """A document without its code blocks."""
    return BLOCK.sub("", path.read_text(encoding="utf-8"))


def commands_of(path: Path) -> Iterator[str]:
    """The commands that a document prints, without their comments."""
    for language, _, body in BLOCK.findall(path.read_text(encoding="utf-8")):
        for line in body.splitlines():
            if language == "console" and not line.startswith("$ "):
                continue
            if language in {"sh", "bash", "console"} and line.strip():
                yield re.sub(r"\s+# .*$", "", line.removeprefix("$ ")).strip()
