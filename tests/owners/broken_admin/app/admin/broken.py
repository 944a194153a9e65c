"""A module that fails."""

from typing import Any

numbers: list[Any] = [one]  # type: ignore[name-defined]  # noqa: F821
