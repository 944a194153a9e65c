"""What a new extension may be called.

An extension puts its name into places that it shares with core: paths, settings, tables, tasks,
revisions, templates. What is taken there is asked of the service itself.
"""

import filecmp
import keyword
import re
from collections.abc import Iterator

from fastapi.routing import iter_route_contexts

from kit.extensions import EXTENSIONS_DIR, present_extensions, public_name
from kit.migrations import (
    CORE,
    REVISION_ID_LENGTH,
    SERVICE,
    VERSION_TABLE,
    load_metadata,
    script_directory,
)
from kit.pages import TEMPLATES_DIR
from kit.places import service
from kit.settings import ServiceSettings, StartupError, setting_name, settings

IDENTIFIER = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")

LONGEST_NAME = REVISION_ID_LENGTH - len("_3f2a91c0")
"""Characters. Alembic's limit for revision ids is reached long before PostgreSQL's for names."""

PASSED_OVER = {
    **dict.fromkeys(filecmp.DEFAULT_IGNORES, "`copier update` passes over"),
    **dict.fromkeys(("build", "dist", "node_modules", "venv"), "pytest and Ruff pass over"),
    **dict.fromkeys(("migrations", "tests"), "Ruff checks less than other code"),
    "htmlcov": "git ignores",
}
"""Folders that would go unnoticed, with what is said of them."""

BRANCH_NAMES = frozenset({"base", "current", "head", "heads", CORE, SERVICE})
"""What stands for revisions already: Alembic's own words, and branches that are always there."""


def refuse_unusable_name(name: str) -> None:
    """Refuse a name that no new extension can have.

    Raises:
        StartupError: saying why, and which name would do.
    """
    if reason := _reason_against(name):
        proposal = f" Call it {other}, for example." if (other := _other_name(name)) else ""
        raise StartupError(f"no extension was made: {name!r} {reason}.{proposal}")


def _reason_against(name: str) -> str | None:
    """Why a new extension cannot have this name; None when it can."""
    if not IDENTIFIER.fullmatch(name):
        return (
            "is no name for one: it takes lower-case letters, digits and single underscores, and "
            "begins with a letter, as loyalty_points"
        )
    if keyword.iskeyword(name):
        return "is a word of Python itself, so nothing could be imported from it"
    if len(name) > LONGEST_NAME:
        return (
            f"has {len(name)} characters; at most {LONGEST_NAME} fit into the ids of its revisions"
        )
    if name in PASSED_OVER:
        return f"names a folder that {PASSED_OVER[name]}"
    present = {public_name(extension): extension for extension in present_extensions()}
    if name in present or (EXTENSIONS_DIR / name).exists():
        return f"is taken by app/extensions/{present.get(name, name)}"
    return _collision(name)


def _other_name(name: str) -> str | None:
    """A similar name that can be had."""
    plain = re.sub(r"[^a-z0-9]+", "_", name.lower()).lstrip("_0123456789").rstrip("_")
    proposals = (plain, plain[:LONGEST_NAME].rstrip("_"), f"own_{plain}")
    return next((each for each in proposals if _reason_against(each) is None), None)


def _collision(name: str) -> str | None:
    """What of core, or of the service's code outside of extensions, the name runs into."""
    taken = {
        "put its routes among": [path for path in _paths() if name in _owner_of(path)],
        "name its settings like": [
            setting for setting in _settings() if setting.startswith(f"{name.upper()}_")
        ],
        "name its tables like": [
            table for table in _tables() if f"{table}_".startswith(f"{name}_")
        ],
        "name its tasks like": [
            task
            for task in service.celery_app.tasks
            if task.startswith(f"{settings.CELERY_TASKS_MODULE}.{name}.")
        ],
        "name its migrations like": [
            revision for revision in _revisions() if revision in (name, f"{name}_0001")
        ],
        "name its templates like": [
            f"templates/{path.name}" for path in TEMPLATES_DIR.glob(f"{name}/")
        ],
    }
    return next((f"would {what} {found[0]}" for what, found in taken.items() if found), None)


def _paths() -> Iterator[str]:
    return (
        context.path for context in iter_route_contexts(service.application.routes) if context.path
    )


def _owner_of(path: str) -> list[str]:
    """The parts of a path that say whose it is: `/api/tasks/ping` is of `api` and of `tasks`."""
    _, first, *rest = path.split("/")
    return [first, *rest[:1]] if first == "api" else [first]


def _settings() -> Iterator[str]:
    for cls in ServiceSettings.__subclasses__():
        if not cls.__module__.startswith("app.extensions."):
            yield from (setting_name(cls, field) for field in cls.model_fields)


def _tables() -> Iterator[str]:
    prefixes = tuple(f"{public_name(extension)}_" for extension in present_extensions())
    tables = (table for table in load_metadata().tables if not table.startswith(prefixes))
    yield from (VERSION_TABLE, *tables)


def _revisions() -> Iterator[str]:
    """Ids and branches of the revisions that there are, and what stands for some of them."""
    yield from BRANCH_NAMES
    for revision in script_directory().walk_revisions():
        yield from (revision.revision, *revision.branch_labels)
