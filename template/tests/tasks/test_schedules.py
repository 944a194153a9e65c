"""The schedule: every entry names a task that there is, at a time that Celery understands."""

from kit.queue import collect_schedules


def test_every_entry_can_be_sent() -> None:
    """`collect_schedules` raises for an entry that cannot, and names its file."""
    assert collect_schedules()
