"""What a check is, what it finds, the list of all checks, how they are run, and the report."""

import asyncio
import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Any, Literal, NamedTuple, TypeVar, get_args

from redis.exceptions import RedisError
from sqlalchemy.exc import ProgrammingError

from kit.causes import explain
from kit.database import connect
from kit.extensions import load_extensions
from kit.places import service
from kit.queue import read_redis_status
from kit.settings import Settings, StartupError, extension_problems, settings

Need = Literal["environment", "settings", "code", "application", "database", "redis"]
"""What a check is called with, in the order of the report: `ENVIRONMENT` as it was found; nothing,
of settings and once the code imports; the application; a connection; a `RedisStatus`."""


class Level(StrEnum):
    """Severity of a finding, and the result of a check."""

    NOT_APPLICABLE = "not-applicable"
    FINE = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


class Finding(NamedTuple):
    """The result of a check, and its remedy."""

    level: Level
    message: str
    remedy: str = ""


fine = partial(Finding, Level.FINE)
warning = partial(Finding, Level.WARNING)
"""What works now, but may become a problem."""
problem = partial(Finding, Level.PROBLEM)
"""What does not work, or is not safe."""

Find = TypeVar("Find", bound=Callable[..., Iterable[Finding]])


@dataclass(frozen=True)
class Check:
    """A check; `CHECKS` has its id, which later releases keep."""

    asks: str
    need: Need
    find: Callable[..., Iterable[Finding]]
    is_for_production: bool
    applies: Callable[[], bool]


CHECKS: dict[str, Check] = {}
"""Every check by its id, in the order of the report."""


def check(
    name: str,
    asks: str,
    need: Need = "settings",
    *,
    production: bool = False,
    when: Callable[[], bool] = lambda: True,
) -> Callable[[Find], Find]:
    """Register a function that yields what is wrong; where it yields nothing, all is well."""

    def register(find: Find) -> Find:
        CHECKS[name] = Check(asks, need, find, production, when)
        return find

    return register


class Result(NamedTuple):
    """What a check found; nothing where it does not apply."""

    id: str
    findings: list[Finding]

    @property
    def level(self) -> Level:
        """The most severe level of its findings."""
        levels = [each.level for each in self.findings]
        return max(levels, key=list(Level).index, default=Level.NOT_APPLICABLE)


def summary_of(results: Sequence[Result], *, production: bool) -> dict[str, Any]:
    """The results as JSON values, with a score that counts the checks that apply."""
    levels = [each.level for each in results]
    return {
        "schema": 1,  # raised when a key goes or changes its meaning, not when one is added
        "production": production,
        "environment": settings.ENVIRONMENT,
        "passed": levels.count(Level.FINE),
        "applicable": len(levels) - levels.count(Level.NOT_APPLICABLE),
        "problems": levels.count(Level.PROBLEM),
        "warnings": levels.count(Level.WARNING),
        "checks": [
            {"id": each.id, "level": each.level, "asks": CHECKS[each.id].asks}
            | {"findings": [finding._asdict() for finding in each.findings]}
            for each in results
        ],
    }


def text_of(results: Sequence[Result], summary: Mapping[str, Any]) -> str:
    """The results as lines of the terminal's width, with their remedies and the score."""
    lines = []
    for finding, name in ((finding, each.id) for each in results for finding in each.findings):
        lines += _wrapped(f"{finding.level:<8} ", f"{name}: {finding.message}")
        lines += _wrapped(f"{'':<8} -> ", finding.remedy) if finding.remedy else []
    counts = {kind: summary[kind] for kind in ("problems", "warnings")}
    found = (f"{n} {kind[:-1] if n == 1 else kind}" for kind, n in counts.items())
    score = "{passed} of {applicable} checks pass: ".format(**summary) + ", ".join(found)
    return "\n".join([*lines, score])


def _wrapped(start: str, message: str) -> list[str]:
    """Break a message into lines, but no command in it, which may be copied."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
    lines = textwrap.wrap(
        re.sub(r"`[^`]*`", lambda command: command[0].replace(" ", "\0"), message),
        width or len(start) + len(message),
        initial_indent=start,
        subsequent_indent=" " * len(start),
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [line.replace("\0", " ") for line in lines]


def examine(
    *, production: bool = False, skip: Collection[str] = (), environment: str | None = None
) -> list[Result]:
    """Run every check that applies, and return what they found, in the order of the report.

    Args:
        production: whether to ask what production requires, beside what always holds.
        skip: ids of checks to leave out. With `database` or `redis` it is not connected to.
        environment: `ENVIRONMENT` as it was found, where the settings assume another.
    """
    examination = _Examination(is_of_production=production)
    examination.ask_code()  # first: an extension's settings are known once it is imported
    examination.run("environment", environment or settings.ENVIRONMENT)
    examination.run("settings")
    # Without an address for them, that is reported with the settings.
    if "database" not in skip and (settings.uses_local_postgres or settings.POSTGRES_HOST):
        examination.ask_database()
    if "redis" not in skip and (settings.uses_local_redis or settings.REDIS_HOST):
        examination.ask_redis()
    order = sorted(CHECKS, key=lambda name: get_args(Need).index(CHECKS[name].need))
    return [Result(name, examination.found.get(name, [])) for name in order if name not in skip]


class _Examination:
    def __init__(self, *, is_of_production: bool) -> None:
        self.found: dict[str, list[Finding]] = {}
        self._is_of_production = is_of_production
        self._imports = True

    def run(self, need: Need, *arguments: object) -> None:
        for name, each in CHECKS.items():
            is_asked = self._is_of_production or not each.is_for_production
            if each.need == need and is_asked and each.applies():
                # It has no such table yet, which `migrations` reports.
                with suppress(ProgrammingError):
                    self.found[name] = self._findings(each, *arguments)

    def _findings(self, asked: Check, *arguments: object) -> list[Finding]:
        try:
            return list(asked.find(*arguments)) or [fine(asked.asks)]
        except StartupError as error:  # of revisions, for one, or of extensions that do not import
            return [_problem(error.message)] if self._imports else []

    def ask_code(self) -> None:
        try:
            service.load()
            for hook in ("models", "api", "tasks"):
                load_extensions(hook)
            self.run("code")
            if self._is_of_production:
                self.run("application", service.application)
        except StartupError as error:
            self._imports = False
            # Of settings, which have checks of their own.
            known = [*(Settings.collected or ()), *extension_problems(settings.ENABLED_EXTENSIONS)]
            lines = [line.strip() for line in error.message.splitlines()]
            self.found["code"] = [_problem(line) for line in lines if line not in "\n".join(known)]

    def ask_database(self) -> None:
        async def ask() -> None:
            # Unlike a migration, this does not wait for whoever has locked a table.
            async with connect(connect_args=settings.database_connect_args) as connection:
                await connection.execution_options(isolation_level="AUTOCOMMIT")
                await connection.run_sync(lambda sync: self.run("database", sync))

        try:
            asyncio.run(ask())
        except StartupError as error:
            self.found["database"] = [_problem(error.message)]
        except TimeoutError:  # the checks that come after are not made
            seconds = settings.POSTGRES_COMMAND_TIMEOUT
            self.found["database"] = [
                problem(
                    f"the database did not answer within {seconds:g} s",
                    "See what works in it, or has locked a table: "
                    "`SELECT * FROM pg_stat_activity WHERE state <> 'idle'`",
                )
            ]

    def ask_redis(self) -> None:
        try:
            self.run("redis", read_redis_status())
        except RedisError as error:
            self.found["redis"] = [problem(*explain(error))]


def _problem(message: str) -> Finding:
    what, _, remedy = message.partition(". ")
    return problem(f"{what}." if remedy else what, remedy or "Correct what it names.")
