"""What a check is, what it finds, the list of all checks, and the report."""

import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Any, Literal, NamedTuple, TypeVar

from kit.settings import settings

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
    score = "{passed} of {applicable} checks pass: {problems} problems, {warnings} warnings"
    return "\n".join([*lines, score.format(**summary)])


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
