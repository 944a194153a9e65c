from kit.queue import collect_schedules


def test_the_meters_are_read_at_four_times() -> None:
    entries = {name for name in collect_schedules() if name.startswith("service.read-meters")}
    assert len(entries) == 4
