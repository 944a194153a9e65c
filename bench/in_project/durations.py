"""A plugin of pytest's: writes how long each test took, set-up and tear-down included.

JSON, to the file that `DURATIONS` names: name of the test → milliseconds of each of its cases. The
report that pytest itself writes rounds to milliseconds.
"""

import json
import os
from collections import defaultdict
from pathlib import Path

import pytest

_took: defaultdict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Add one of the three parts of a case."""
    _took[report.location[2].partition("[")[0]][report.nodeid] += 1000 * report.duration


def pytest_sessionfinish() -> None:
    """Write them all."""
    found = {name: list(cases.values()) for name, cases in _took.items()}
    Path(os.environ["DURATIONS"]).write_text(json.dumps(found), encoding="utf-8")
