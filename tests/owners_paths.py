"""Which files are their owner's: `copier copy` writes them, and no update ever touches them.

Read from `_exclude` of `copier.yml`, whose patterns of them are paths of files and folders.
"""

from functools import cache

from jinja2 import Environment, StrictUndefined

from tests.combinations import configuration


@cache
def owners_paths() -> frozenset[str]:
    """Those files and folders."""
    return frozenset(_excluded("update") - _excluded("copy"))


def is_owners(path: str) -> bool:
    """Whether a file of a project, by its path in it, is one of them or lies in one of them."""
    parts = path.split("/")
    return any("/".join(parts[:count]) in owners_paths() for count in range(1, len(parts) + 1))


def _excluded(operation: str) -> set[str]:
    environment = Environment(undefined=StrictUndefined, autoescape=True)
    texts = (
        environment.from_string(pattern).render(_copier_operation=operation)
        for pattern in configuration()["_exclude"]
    )
    return {line.removeprefix("/") for text in texts for line in text.splitlines() if line}
