"""Begin an extension of your own: `python -m kit.commands.extension loyalty`, or `make extension`.

Copies the skeleton under the new name and enables the copy in `pyproject.toml`.
"""

import argparse
import filecmp
import keyword
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from sqladmin.helpers import slugify_class_name

from kit.commands import run_command
from kit.extensions import (
    EXTENSIONS_DIR,
    IDENTIFIER,
    extension_dir,
    present_extensions,
    public_name,
)
from kit.http import extension_prefix, extension_title
from kit.migrations import REVISION_ID_LENGTH
from kit.settings import BASE_DIR, StartupError, where_set

PYPROJECT = BASE_DIR / "pyproject.toml"

_ENABLED = re.compile(
    r"^enabled_extensions[ \t]*=[ \t]*\[(?P<items>(?P<line>\n(?P<indentation>[ \t]*))?[^\]]*)\]",
    re.MULTILINE,
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command.

    Raises:
        StartupError: when there is no new extension, with the reason; nothing has been written.
    """
    parser = argparse.ArgumentParser(
        prog="python -m kit.commands.extension", description="Begin an extension of your own."
    )
    parser.add_argument("name", help="lower-case, for example loyalty_points")
    name = parser.parse_args(arguments).name
    refuse_unusable_name(name)
    copy_skeleton(name)
    print(f"app/extensions/{name} is a copy of {SKELETON}, tests included.")
    enable(name)
    print(_next_steps(name))


def enable(name: str) -> None:
    """Enable the extension in `pyproject.toml`, or print how to do it by hand."""
    changed = with_enabled(PYPROJECT.read_text("utf-8"), name)
    if changed is None:
        print(
            f'To enable it, add "{name}" to enabled_extensions in [tool.service] of '
            "pyproject.toml by hand: this command cannot change the list in its present form."
        )
        return
    PYPROJECT.write_text(changed, "utf-8")
    print("It is enabled in pyproject.toml.")
    where = where_set("ENABLED_EXTENSIONS")
    if where in ("set in .env", "set in the environment"):
        print(f"But ENABLED_EXTENSIONS is {where}, which takes precedence: add {name} there, too.")


def with_enabled(pyproject: str, name: str) -> str | None:
    """Add an extension at the beginning of `enabled_extensions` in the text of `pyproject.toml`.

    Everything else stays, comments and layout included. None when the list cannot be found, or has
    a form that this does not understand.
    """
    for match in _ENABLED.finditer(pyproject):
        item = f'"{name}"'
        if match["line"]:  # one item a line
            item = f"\n{match['indentation'] or '    '}{item},"
        elif match["items"].strip():
            item += ", "
        changed = pyproject[: match.start("items")] + item + pyproject[match.start("items") :]
        if _is_same_but_for_extension(pyproject, changed, name):
            return changed
    return None


def _is_same_but_for_extension(before: str, after: str, name: str) -> bool:
    try:
        expected, actual = tomllib.loads(before), tomllib.loads(after)
        expected["tool"]["service"]["enabled_extensions"].insert(0, name)
    except (tomllib.TOMLDecodeError, KeyError):
        return False
    return actual == expected


def _next_steps(name: str) -> str:
    return f"""\
Next:

  make db-upgrade    # creates its table
  make test          # runs its tests too
  make dev           # has its API at /api{extension_prefix(name)}, in a group of its own at /scalar

Then change it to your needs, beginning with its models.py. After a change of the tables:
`make db-migrate extension={name} message="…"`"""


SKELETON = "_example"

_NAME = re.compile(r"(?<![a-zA-Z0-9])_example|(?<!\.env\.)example|Example|EXAMPLE")
_PARAGRAPH_ABOUT_SKELETON = re.compile(r"^.*\bskeleton\b.*\n\n?", re.MULTILINE)


def copy_skeleton(name: str) -> None:
    """Copy the skeleton to the folder of a new extension, with everything renamed.

    Raises:
        StartupError: when the skeleton or Ruff, which formats the copy, is missing.
    """
    source, target = extension_dir(SKELETON), extension_dir(name)
    if not source.is_dir():
        raise StartupError(
            f"no extension was made: app/extensions/{SKELETON}, which would be copied, is missing. "
            "Restore it from git."
        )
    if find_spec("ruff") is None:
        raise StartupError(
            "no extension was made: Ruff, which formats it, is not installed. Run `make setup`."
        )
    try:
        _copy_renamed(source, target, name)
        _format(target)
    except BaseException:
        shutil.rmtree(target, ignore_errors=True)
        raise


def renamed(text: str, name: str) -> str:
    """Rename the skeleton in a text, in each form of its name: `ExampleNote`, `EXAMPLE_…`."""
    camel_case = "".join(word.capitalize() for word in name.split("_"))
    forms = {
        "_example": name,
        "example": name,
        "Example": extension_title(name),
        "EXAMPLE": name.upper(),
    }

    def form_of(match: re.Match[str]) -> str:
        following = match.string[match.end() : match.end() + 1]
        if match[0] == "Example" and following.isupper():
            return camel_case
        if match[0] == "example" and following == "-":  # SQLAdmin's address of `ExampleNote`
            return slugify_class_name(f"{camel_case}Note").removesuffix("-note")
        return forms[match[0]]

    return _NAME.sub(form_of, text)


def _copy_renamed(source: Path, target: Path, name: str) -> None:
    for path in sorted(source.rglob("*")):
        inner = path.relative_to(source)
        if path.is_dir() or "__pycache__" in inner.parts or path.name == ".DS_Store":
            continue
        copy = target / renamed(str(inner), name)
        copy.parent.mkdir(parents=True, exist_ok=True)
        text = _PARAGRAPH_ABOUT_SKELETON.sub("", path.read_text(encoding="utf-8"))
        copy.write_text(renamed(text, name), encoding="utf-8")


def _format(folder: Path) -> None:
    """Wrap lines and sort imports anew, since the new name has another length."""
    for command in (["check", "--select", "I", "--fix"], ["format"]):
        subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--quiet", str(folder)],
            cwd=BASE_DIR,
            check=True,
        )


LONGEST_NAME = REVISION_ID_LENGTH - len("_3f2a91c0")
"""Characters. Alembic's limit for revision ids is reached long before PostgreSQL's for names."""

SPECIAL_FOLDERS = {
    **dict.fromkeys(filecmp.DEFAULT_IGNORES, "`copier update` ignores"),
    **dict.fromkeys(("build", "dist", "node_modules", "venv"), "pytest and Ruff ignore"),
    **dict.fromkeys(("migrations", "tests"), "Ruff checks less than other code"),
    "htmlcov": "git ignores",
}
"""Names of folders that tools treat specially, each with the reason for a refusal."""

RESERVED = {
    name: kind
    for kind, names in {
        "routes": "_live api admin health openapi scalar static tasks",
        "settings": "admin allow allowed api celery cors database enabled environment flower "
        "forwarded log platform postgres project redis secret",
        "tables": "admin alembic api audit",
        "migrations": "base core current head heads service",
        "templates": "live partials sqladmin",
    }.items()
    for name in names.split()
}
"""Prefixes that the kit uses itself, each with the kind of names that would collide."""


def refuse_unusable_name(name: str) -> None:
    """Refuse a name that a new extension cannot have.

    Raises:
        StartupError: with the reason, and a name that is possible.
    """
    if reason := _reason_against(name):
        proposal = f" Call it {other}, for example." if (other := _other_name(name)) else ""
        raise StartupError(f"no extension was made: {name!r} {reason}.{proposal}")


def _reason_against(name: str) -> str | None:
    """Why a new extension cannot have this name; None when it can."""
    present = {public_name(extension): extension for extension in present_extensions()}
    reason = None
    if not IDENTIFIER.fullmatch(name):
        reason = (
            "is not a valid name: use lower-case letters, digits and single underscores, beginning "
            "with a letter, as in loyalty_points"
        )
    elif keyword.iskeyword(name):
        reason = "is a keyword of Python, so nothing could be imported from it"
    elif len(name) > LONGEST_NAME:
        reason = (
            f"has {len(name)} characters; at most {LONGEST_NAME} fit into the ids of its revisions"
        )
    elif name in SPECIAL_FOLDERS:
        reason = f"names a folder that {SPECIAL_FOLDERS[name]}"
    elif name in present or (EXTENSIONS_DIR / name).exists():
        reason = f"is taken by app/extensions/{present.get(name, name)}"
    elif kind := "migrations" if re.fullmatch(r"core_\d+", name) else RESERVED.get(name):
        reason = f"would name its {kind} like the kit's"
    return reason


def _other_name(name: str) -> str | None:
    """A similar name that is possible."""
    plain = re.sub(r"[^a-z0-9]+", "_", name.lower()).lstrip("_0123456789").rstrip("_")
    proposals = (plain, plain[:LONGEST_NAME].rstrip("_"), f"own_{plain}")
    return next((each for each in proposals if _reason_against(each) is None), None)


if __name__ == "__main__":
    run_command(main)
