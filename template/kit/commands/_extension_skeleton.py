"""Copying the skeleton `app/extensions/_example` under another name."""

import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from sqladmin.helpers import slugify_class_name

from kit.extensions import extension_dir
from kit.http import extension_title
from kit.settings import BASE_DIR, StartupError

SKELETON = "_example"

_NAME = re.compile(r"(?<![a-zA-Z0-9])_example|(?<!\.env\.)example|Example|EXAMPLE")
_PARAGRAPH_ABOUT_SKELETON = re.compile(r"^.*\bskeleton\b.*\n\n?", re.MULTILINE)


def copy_skeleton(name: str) -> None:
    """Make the folder of a new extension, a copy of the skeleton with everything renamed.

    Raises:
        StartupError: when the skeleton is missing, or Ruff, which formats the copy.
    """
    source, target = extension_dir(SKELETON), extension_dir(name)
    if not source.is_dir():
        raise StartupError(
            f"no extension was made: app/extensions/{SKELETON}, which would be copied, is gone. "
            "Put it back, as git has it."
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
    """A text of the skeleton with the name in each of its forms: `ExampleNote`, `EXAMPLE_…`."""
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
    """Wrap lines and sort imports anew: the new name is longer or shorter than the old one."""
    for command in (["check", "--select", "I", "--fix"], ["format"]):
        subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--quiet", str(folder)],
            cwd=BASE_DIR,
            check=True,
        )
