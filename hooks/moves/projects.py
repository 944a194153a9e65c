"""Dependencies in pyproject.toml: the owner's own stand apart from the kit's since 0.5.0."""

import re
from dataclasses import dataclass, field

from hooks.moves.merging import merge_plain

ARRAYS = (("project", "dependencies"), ("dependency-groups", "dev"))
"""Section and name of the lists to which owners add, in both releases."""


@dataclass
class Project:
    """The result.

    Args:
        text: of pyproject.toml.
        own: requirements of the owner's that stand apart now.
        removed: requirements of the template's that the owner had removed.
    """

    text: str
    own: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)


def merge_projects(base: str, edited: str, released: str) -> Project:
    """Merge an edited pyproject.toml into the new release's."""
    result = Project("")
    own: dict[tuple[str, str], list[str]] = {}
    for array in ARRAYS:
        before, after = _find(base, array), _find(edited, array)
        if before is None or after is None:
            continue
        own[array] = _own_lines(before.content, after.content)
        names = set(map(_name, _items(after.content)))
        result.removed += [
            name for each in _items(before.content) if (name := _name(each)) not in names
        ]
        edited = edited[: after.start] + before.content + edited[after.end :]
    result.text = merge_plain(base, edited, released).text
    for array, lines in own.items():
        there = set(_items(result.text))
        new = [line for line in lines if not _items(line) or _items(line)[0] not in there]
        result.text = _extend(result.text, array, new)
        result.own += [item.strip('"') for line in new for item in _items(line)]
    return result


def _own_lines(before: str, after: str) -> list[str]:
    """Lines of a list that the owner has added or changed: requirements and comments."""
    known, items = {line.strip() for line in before.splitlines()}, set(_items(before))
    found = []
    for line in map(str.strip, after.splitlines()):
        new = [item for item in _items(line) if item not in items]
        if line.startswith("#") and line not in known:
            found.append(line)
        elif len(_items(line)) > 1:
            found += [f"{item}," for item in new]
        elif new:
            found.append(line if "," in line else line.replace(new[0], f"{new[0]},"))
        elif "#" in line and line not in known and _items(line):
            found.append(f"# {_name(_items(line)[0])}: {line.partition('#')[2].strip()}")
    return found


@dataclass(frozen=True)
class _Array:
    """The content of a list, between its brackets."""

    start: int
    end: int
    content: str


def _find(text: str, array: tuple[str, str]) -> _Array | None:
    """Find a list in its section."""
    section, name = array
    header = re.search(rf"^\[{re.escape(section)}\]$", text, re.MULTILINE)
    if header is None:
        return None
    following = re.compile(r"^\[", re.MULTILINE).search(text, header.end())
    end = following.start() if following else len(text)
    opening = re.compile(rf"^{re.escape(name)} = \[", re.MULTILINE).search(text, header.end(), end)
    if opening is None:
        return None
    # Brackets in texts, as in "celery[redis]", and in comments are not the end.
    content = re.compile(r"""(?:"[^"\n]*"|#[^\n]*|[^"#\]])*""").match(text, opening.end())
    return _Array(opening.end(), content.end(), content[0]) if content else None


def _items(text: str) -> list[str]:
    """The requirements in a text, and the groups that are included."""
    code = re.sub(r"""("[^"\n]*")|#[^\n]*""", lambda found: found[1] or "", text)
    return re.findall(r'\{[^}]*\}|"[^"\n]*"', code)


def _name(item: str) -> str:
    return re.split(r"[^\w.-]", item.lstrip('"{ '), maxsplit=1)[0].lower().replace("_", "-")


def _extend(text: str, array: tuple[str, str], lines: list[str]) -> str:
    found = _find(text, array)
    if not lines:
        return text
    new = [f"    {line}" for line in lines]
    if found is None:
        return "\n".join([text.rstrip(), "", "# Yours:", *(f"#{line}" for line in new), ""])
    content = found.content.rstrip()
    if content and not re.search(r",\s*(#[^\n]*)?$", content):
        content += ","
    if content and not content.startswith("\n"):
        content = f"\n    {content.strip()}"
    return text[: found.start] + "\n".join([content, *new]) + "\n" + text[found.end :]
