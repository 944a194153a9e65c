"""An extension of your own: `python -m kit.commands.extension loyalty`, or `make extension`.

Copies the skeleton under the new name and enables the copy in `pyproject.toml`.
"""

import argparse
import re
import tomllib
from collections.abc import Sequence

from kit.commands._extension_name import refuse_unusable_name
from kit.commands._extension_skeleton import SKELETON, copy_skeleton
from kit.http import extension_prefix
from kit.settings import BASE_DIR, where_set

PYPROJECT = BASE_DIR / "pyproject.toml"

_ENABLED = re.compile(
    r"^enabled_extensions[ \t]*=[ \t]*\[(?P<items>(?P<line>\n(?P<indentation>[ \t]*))?[^\]]*)\]",
    re.MULTILINE,
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command.

    Raises:
        StartupError: saying why there is no new extension; nothing has been written then.
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
    """Enable the extension for everyone who has this code, or tell how to."""
    changed = with_enabled(PYPROJECT.read_text("utf-8"), name)
    if changed is None:
        print(
            f'To enable it, add "{name}" to enabled_extensions in [tool.service] of '
            "pyproject.toml: what stands there now is not a list that this command can change."
        )
        return
    PYPROJECT.write_text(changed, "utf-8")
    print("It is enabled in pyproject.toml.")
    where = where_set("ENABLED_EXTENSIONS")
    if where in ("set in .env", "set in the environment"):
        print(f"But ENABLED_EXTENSIONS is {where}, which counts here: add {name} there, too.")


def with_enabled(pyproject: str, name: str) -> str | None:
    """`pyproject.toml` with one extension more at the beginning of `enabled_extensions`.

    Everything else stays, comments and layout included. None when the list cannot be found, or is
    written in a way that this does not understand.
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

Then make of it what you need, beginning with its models.py. After a change of the tables:
`make db-migrate extension={name} message="…"`"""


if __name__ == "__main__":
    main()
