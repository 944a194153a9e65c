"""The schedule: every entry names an existing task and a time that Celery understands."""

from kit.queue import collect_schedules


def test_every_entry_can_be_sent() -> None:
    """`collect_schedules` raises for an invalid entry, and names its file."""
    assert collect_schedules()
