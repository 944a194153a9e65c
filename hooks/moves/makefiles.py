"""The Makefile, whose targets moved into `kit/kit.mk`: what the owner added stays theirs."""

import re
from dataclasses import dataclass, field

from hooks.moves.merging import AFTER, BEFORE, MIDDLE, merge_texts

RULE = re.compile(r"^([\w./%$()-][\w./%$() -]*?)\s*::?(?!=)")
VARIABLE = re.compile(r"^(?:export\s+|override\s+)?([\w.-]+)\s*[:?+!]{0,3}=")
OPENING, CLOSING = re.compile(r"^(ifn?def|ifn?eq|define)\b"), re.compile(r"^(endif|endef)\b")

Blocks = dict[tuple[str, str], str]
"""Texts by kind and name: rules, variables, and others."""


@dataclass
class Makefiles:
    """The result.

    Args:
        own: the owner's Makefile.
        kit: the kit's.
        added: what went into the owner's.
        changed: what changed in the kit's.
        look: what needs a look.
    """

    own: str
    kit: str
    added: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    look: list[str] = field(default_factory=list)


def merge_makefiles(base: str, edited: str, released: str, kit: str) -> Makefiles:
    """Merge an edited Makefile into the owner's new one and the kit's.

    Args:
        base: of the old release.
        edited: with the owner's edits.
        released: the owner's new one.
        kit: `kit/kit.mk` of the new release.
    """
    before, after, own = blocks(base), blocks(edited), blocks(released)
    result = Makefiles(released, kit)
    tail: list[str] = []
    edits = {key: text for key, text in after.items() if before.get(key) != text}
    for key, text in edits.items():
        old = before.get(key)
        if key[0] == "phony" or own.get(key) == text:
            continue
        if old is None:
            result.added.append(key[1])
        if key in own:
            merged = merge_texts(old or "", text, own[key])
            result.own = result.own.replace(own[key], merged.text, 1)
        elif old is None:
            tail.append(text)
        else:
            _change_kit(result, key, old, text, tail)
    if phony := sorted(_phony(edited) - _phony(base)):
        tail.insert(0, f".PHONY: {' '.join(phony)}\n")
    if tail:
        result.own = "\n".join([result.own.rstrip("\n") + "\n", *tail])
    for kind, name in sorted(before.keys() - after.keys()):
        if kind == "rule":
            result.look.append(f"you had taken out the target {name}; kit/kit.mk has it")
    _look_for_variables(result, tail)
    return result


def _change_kit(
    result: Makefiles, key: tuple[str, str], old: str, text: str, tail: list[str]
) -> None:
    found = blocks(result.kit).get(key)
    if found is None:
        tail.append(f"{BEFORE}\n{text}{MIDDLE}\n{AFTER}\n")
        return
    merged = merge_texts(old, text, found)
    result.kit = result.kit.replace(found, merged.text, 1)
    result.changed.append(key[1])


def _look_for_variables(result: Makefiles, tail: list[str]) -> None:
    known = {key[1] for key in {**blocks(result.own), **blocks(result.kit)} if key[0] == "variable"}
    used = set(re.findall(r"(?<!\$)\$\((\w+)\)", "\n".join(tail)))
    automatic = {"MAKE", "CURDIR", "SHELL"}
    for name in sorted(used - known - automatic):
        result.look.append(f"your targets use $({name}), which no Makefile sets any more")


def _phony(text: str) -> set[str]:
    found: set[str] = set()
    for key, block in blocks(text).items():
        if key[0] == "phony":
            found |= set(block.replace("\\\n", " ").partition(":")[2].split())
    return found


def blocks(text: str) -> Blocks:
    """The parts of a Makefile, each with the comments above it."""
    found: Blocks = {}
    current: list[str] = []
    comments: list[str] = []
    key: tuple[str, str] | None = None
    depth = 0

    def close() -> None:
        nonlocal key, current
        if key is not None:
            while current and not current[-1].strip():
                current.pop()
            found[_free(found, key)] = "\n".join(current) + "\n"
        key, current = None, []

    for line in text.rstrip("\n").split("\n"):
        continues = bool(current) and current[-1].endswith("\\")
        if depth or continues or (key is not None and line.startswith("\t")):
            current.append(line)
            depth += bool(OPENING.match(line)) - bool(CLOSING.match(line))
        elif not line.strip() or line.startswith("#"):
            close()
            comments = [*comments, line] if line.strip() else []
            if line.startswith("#"):
                continue
        else:
            close()
            depth = int(bool(OPENING.match(line)))
            key, current, comments = _key(line), [*comments, line], []
    close()
    if comments:
        found["other", comments[0]] = "\n".join(comments) + "\n"
    return found


def _key(line: str) -> tuple[str, str]:
    if line.startswith(".PHONY"):
        return "phony", ".PHONY"
    if found := VARIABLE.match(line):
        return "variable", found[1]
    if found := RULE.match(line):
        return "rule", found[1]
    return "other", line


def _free(found: Blocks, key: tuple[str, str]) -> tuple[str, str]:
    number, name = 1, key
    while name in found:
        number += 1
        name = key[0], f"{key[1]} ({number})"
    return name
