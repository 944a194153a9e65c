"""Instructions that a request takes, beside those of the floor, counted by callgrind in one run.

The ratios repeat within half a percent, however busy the machine is, and differ by a few between
builds of Python; the instructions themselves differ by a fifth. Neither server nor kernel is in
them: `docs/performance.md` has the processor time.
"""

import json
import re
import sys
from pathlib import Path

import pytest

from tests.installed_servers import installed_program
from tests.repositories import REPOSITORY
from tests.service import Service

pytestmark = [
    pytest.mark.full,
    pytest.mark.xdist_group("instructions"),
    pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="recorded with Python 3.11"),
]

PROGRAM = REPOSITORY / "tests" / "in_project" / "instructions.py"
TOLERANCE = 0.05
"""What is beyond is a regression, or progress to be recorded here."""

RECORDED = {
    ("health", "floor: hello"): 3.75,
    ("404", "health"): 1.26,
    ("read", "floor: read"): 2.59,
    ("read with a session", "floor: read"): 4.48,
    ("create", "floor: create"): 2.55,
    ("create with a session", "floor: create"): 5.45,
    ("create and send", "floor: send"): 1.34,
    ("create with a session and send", "floor: send"): 2.03,
}
"""Ratios, in the middle of those with two builds of Python, which differ by 0 to 6 %."""


@pytest.fixture(scope="module")
def thousands(service: Service, tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    """Thousands of instructions of each call."""
    written = tmp_path_factory.mktemp("callgrind") / "counted"
    options = ["--instr-atstart=no", "--zero-before=getloadavg", "--dump-before=getpriority"]
    output = service.run(
        *("env", f"PYTHONPATH={service.folder}", "PYTHONHASHSEED=0"),
        *(
            installed_program("valgrind", "valgrind"),
            "--tool=callgrind",
            *options,
            f"--callgrind-out-file={written}",
        ),
        *(str(service.folder / ".venv/bin/python"), str(PROGRAM)),
        *(str(REPOSITORY / "bench" / folder) for folder in ("floors", "in_project")),
    )
    names = json.loads(next(line for line in output.splitlines() if line.startswith("[")))
    return {
        name: _total(written.with_name(f"{written.name}.{number}")) / 20_000
        for number, name in enumerate(names, start=1)
    }


def _total(dump: Path) -> int:
    text = dump.read_text(encoding="latin-1")
    found = re.search(r"^(?:summary|totals): (\d+)", text, re.MULTILINE)
    assert found, f"{dump} has no total"
    return int(found[1])


def test_it_is_what_was_recorded(thousands: dict[str, float]) -> None:
    print({name: round(each) for name, each in thousands.items()})
    ratios = {pair: thousands[pair[0]] / thousands[pair[1]] for pair in RECORDED}
    assert ratios == pytest.approx(RECORDED, rel=TOLERANCE)
