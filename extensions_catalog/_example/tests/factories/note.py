"""Notes for tests."""

from itertools import count
from typing import Any

from app.extensions._example.models import ExampleNote

_numbers = count(1)


def make_note(**values: Any) -> ExampleNote:
    """Make a note up, not stored yet; `values` replace those that are made up."""
    number = next(_numbers)
    made_up: dict[str, Any] = {"title": f"Note {number}", "body": f"What note {number} says."}
    return ExampleNote(**made_up | values)
