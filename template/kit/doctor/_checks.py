"""What a check is, what it finds, and the list of all checks."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Literal, NamedTuple, TypeVar

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
