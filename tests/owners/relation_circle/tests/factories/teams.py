"""Teams and players for tests and `make seed`."""

from itertools import count
from typing import Any

from app.models.team import Player, Team

_numbers = count(1)


def make_team(**values: Any) -> Team:
    """Make a team up, not stored yet."""
    return Team(**{"name": f"Team {next(_numbers)}"} | values)


def make_player(**values: Any) -> Player:
    """Make a player up, not stored yet."""
    return Player(**{"name": f"Player {next(_numbers)}"} | values)
