"""What an extension is made of: core looks for the hooks' names, and for no others."""

import difflib
from collections.abc import Iterator
from pathlib import Path

from kit.architecture._source import EXTENSIONS, imports, place
from kit.extensions import HOOKS, extension_dir, present_extensions

FOLDERS = ("migrations", "templates", "tests")
MODULES = (*HOOKS, "settings")


def unknown_parts() -> Iterator[str]:
    """A misspelt hook would be passed over in silence.

    A module of another name is the extension's own business, as long as one of its parts uses it.
    """
    for extension in present_extensions():
        for path in sorted(extension_dir(extension).glob("[!._]*")):
            is_known = path.stem in MODULES or (path.is_dir() and path.name in FOLDERS)
            if is_known or not (path.is_dir() or path.suffix == ".py"):
                continue
            names = (*MODULES, *FOLDERS)
            [close] = difflib.get_close_matches(path.stem, names, n=1, cutoff=0.8) or [""]
            if close:
                yield f"{place(path, 1)} is no part of an extension: did you mean {close}"
            elif not _is_used(extension, path):
                yield f"{place(path, 1)} is no part of an extension, and nothing imports it"


def _is_used(extension: str, path: Path) -> bool:
    module = f"{EXTENSIONS}.{extension}.{path.stem}"
    own = (found for found in imports() if f"{found.imported}.".startswith(f"{module}."))
    return any(not f"{found.importer}.".startswith(f"{module}.") for found in own)
