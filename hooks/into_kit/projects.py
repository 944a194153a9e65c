"""Dependencies in pyproject.toml: the owner's own stand apart from the kit's since 0.5.0."""

import re
from dataclasses import dataclass, field

from hooks.into_kit.merging import merge_texts

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
        known = set(map(_bare, before.items))
        own[array] = [item for item in after.items if _bare(item) not in known]
        names = {_name(item) for item in after.items}
        result.removed += [_name(each) for each in before.items if _name(each) not in names]
        edited = edited[: after.start] + base[before.start : before.end] + edited[after.end :]
    result.text = merge_texts(base, edited, released).text
    for array, items in own.items():
        there = set(map(_bare, re.findall(r'^\s*("[^"]+".*)$', result.text, re.MULTILINE)))
        new = [item for item in items if _bare(item) not in there]
        result.text = _extend(result.text, array, new)
        result.own += [_bare(item).strip('"') for item in new]
    return result


@dataclass(frozen=True)
class _Array:
    start: int
    end: int
    items: list[str]


def _find(text: str, array: tuple[str, str]) -> _Array | None:
    """A list of one section: where its content is, between the brackets, and its items."""
    section, name = array
    header = re.search(rf"^\[{re.escape(section)}\]$", text, re.MULTILINE)
    if header is None:
        return None
    following = re.compile(r"^\[", re.MULTILINE).search(text, header.end())
    end = following.start() if following else len(text)
    opening = re.compile(rf"^{re.escape(name)} = \[", re.MULTILINE).search(text, header.end(), end)
    if opening is None:
        return None
    at = opening.end()
    while at < len(text) and text[at] != "]":
        # Brackets in texts, as in "celery[redis]", and in comments are not the end.
        found = re.compile(r'"[^"\n]*"|#[^\n]*|[^"#\]]+').match(text, at)
        if found is None:
            return None
        at = found.end()
    content = text[opening.end() : at]
    items = [x.strip() for x in re.findall(r'\{[^}]*\}.*|"[^"\n]*"[^"\n]*', content)]
    return _Array(opening.end(), at, items)


def _bare(item: str) -> str:
    found = re.match(r'"[^"]*"|\{[^}]*\}', item)
    return found[0] if found else item


def _name(item: str) -> str:
    return re.split(r"[^\w.-]", item.lstrip('"{ '), maxsplit=1)[0].lower().replace("_", "-")


def _extend(text: str, array: tuple[str, str], items: list[str]) -> str:
    found = _find(text, array)
    if not items:
        return text
    lines = [f"    {_bare(item)},{_comment(item)}" for item in items]
    if found is None:
        return f"{text.rstrip()}\n\n# Yours:\n" + "\n".join(f"#{line}" for line in lines) + "\n"
    content = text[found.start : found.end].rstrip()
    if content and not re.search(r",\s*(#[^\n]*)?$", content):
        content += ","
    if content and not content.startswith("\n"):
        content = f"\n    {content.strip()}"
    return text[: found.start] + "\n".join([content, *lines]) + "\n" + text[found.end :]


def _comment(item: str) -> str:
    comment = item[len(_bare(item)) :].lstrip(", ")
    return f" {comment}" if comment.startswith("#") else ""
