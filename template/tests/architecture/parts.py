"""What an extension is made of: core looks for these names, and for no others."""

import difflib
from collections.abc import Iterator

from app.core.extensions import HOOKS, extension_dir, present_extensions
from tests.architecture.source import place

FOLDERS = ("migrations", "templates", "tests")
MODULES = (*HOOKS, "settings", "services")
"""Each is a file or a folder. In `services` stands what an extension does besides its hooks."""


def unknown_parts() -> Iterator[str]:
    """A misspelt hook would be passed over in silence."""
    for extension in present_extensions():
        for path in sorted(extension_dir(extension).glob("[!._]*")):
            is_known = path.stem in MODULES or (path.is_dir() and path.name in FOLDERS)
            if is_known or not (path.is_dir() or path.suffix == ".py"):
                continue
            [close] = difflib.get_close_matches(path.stem, (*MODULES, *FOLDERS), n=1) or [""]
            hint = f"did you mean {close}" if close else "what is no hook goes into services"
            yield f"{place(path, 1)} is no part of an extension, nothing loads it: {hint}"
