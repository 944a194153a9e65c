"""What one row of the table is: a figure, its floor and its goal."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any, TypeVar

REPEATS = 5
"""Times that each figure is taken; the median counts."""


@dataclass(frozen=True)
class Goal:
    """A bound: of the ratio to the floor, or of the figure itself."""

    bound: float
    at_least: bool = False
    of_ratio: bool = True

    def is_met(self, row: "Row") -> bool:
        """Whether the row keeps within the bound, rounded as the table shows it."""
        figure = row.ratio if self.of_ratio else row.value
        if figure is None:
            return False
        shown = float(f"{figure:.3g}")
        return shown >= self.bound if self.at_least else shown <= self.bound

    def text(self, unit: str) -> str:
        """As `≥ 0.3` or `≤ 95 MB`."""
        sign = "≥" if self.at_least else "≤"
        return f"{sign} {self.bound:g} {'' if self.of_ratio else unit}".strip()


@dataclass(frozen=True)
class Row:
    """A figure of the service beside its floor."""

    name: str
    what: str
    unit: str
    samples: list[float]
    floor: list[float] = field(default_factory=list)
    """Samples of the floor, in the same unit, taken in turn with those of the service."""
    floor_is: str = ""
    goal: Goal | None = None

    @property
    def value(self) -> float:
        """The median."""
        return median(self.samples)

    @property
    def floor_value(self) -> float | None:
        """The floor's median; None where the figure stands for itself."""
        return median(self.floor) if self.floor else None

    @property
    def ratio(self) -> float | None:
        """How many times the floor; None where there is none."""
        return self.value / self.floor_value if self.floor_value else None

    @property
    def is_met(self) -> bool | None:
        """Whether the goal is met; None where there is none."""
        return None if self.goal is None else self.goal.is_met(self)

    def document(self) -> dict[str, Any]:
        """As JSON, with the samples and what follows from them."""
        return asdict(self) | {
            "value": self.value,
            "floor_value": self.floor_value,
            "ratio": self.ratio,
            "is_met": self.is_met,
        }


Sample = TypeVar("Sample")


def in_turn(
    *measures: Callable[[], Sample], repeats: int = REPEATS, warm_ups: int = 0
) -> list[list[Sample]]:
    """Samples of each, taken in turn, so that what else the machine does meets all alike.

    Args:
        measures: each takes one sample.
        repeats: samples of each.
        warm_ups: samples of each that are thrown away first.
    """
    rounds: Sequence[list[Sample]] = [
        [measure() for measure in measures] for _ in range(warm_ups + repeats)
    ]
    return [list(samples) for samples in zip(*rounds[warm_ups:], strict=True)]
