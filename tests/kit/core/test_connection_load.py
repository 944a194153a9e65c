"""All processes of the service at once, under load, on a server that has no connection to spare."""

from pathlib import Path

import pytest

from kit.tests.load_service import SYNC_PING
from kit.tests.whole_service import Outcome, Profile, run_under_load

ASYNC_PING = "/api/tasks/ping"
SLOWEST_SECONDS = 5

ONE_OF_EACH = Profile()
OTHERS = {
    "8 threads": Profile(worker=("--pool", "threads", "--concurrency", "8")),
    "2 children": Profile(worker=("--pool", "processes", "--concurrency", "2"), children=2),
    "2 API workers": Profile(api_workers=2),
    "4 API workers": Profile(api_workers=4),
}

pytestmark = [pytest.mark.slow, pytest.mark.load, pytest.mark.usefixtures("test_database")]


def test_one_process_of_each_kind(tmp_path: Path) -> None:
    outcome = run_under_load(ONE_OF_EACH, tmp_path, ASYNC_PING, SYNC_PING, tasks=2000)

    check_budget(outcome, ONE_OF_EACH)
    check_tasks(outcome, tasks=2000)
    assert max(outcome.idle) <= 9, outcome
    assert outcome.peak <= 12, outcome


@pytest.mark.parametrize("profile", OTHERS.values(), ids=OTHERS)
def test_other_numbers_of_processes(profile: Profile, tmp_path: Path) -> None:
    outcome = run_under_load(profile, tmp_path, ASYNC_PING, SYNC_PING, tasks=400)

    check_budget(outcome, profile)
    check_tasks(outcome, tasks=400)


def check_budget(outcome: Outcome, profile: Profile) -> None:
    """No process held more than it may, nor all together, and nobody was turned away."""
    assert outcome.processes == profile.processes, outcome
    for role, most in outcome.most_by_role.items():
        assert role == "nameless" or most <= profile.allowance(role), outcome.fullest[role]
    assert outcome.peak < profile.budget.total, outcome  # the last one is the sampler's
    assert outcome.rejected == 0, outcome
    # What is not looked at cannot be over: several times a second, on a busy machine too.
    assert outcome.samples > 5 * outcome.load.seconds, outcome


def check_tasks(outcome: Outcome, *, tasks: int) -> None:
    """Each task was accepted, ran once and was read back; beat sent and Flower answered."""
    assert outcome.load.problems == [], outcome
    assert len(outcome.load.ids) == tasks, outcome
    assert set(outcome.runs.values()) == {1}, outcome
    heartbeats = outcome.runs.keys() - set(outcome.load.ids)
    assert len(outcome.runs) - len(heartbeats) == tasks, outcome
    assert len(heartbeats) >= outcome.load.seconds / 2, outcome
    assert outcome.load.slowest_seconds < SLOWEST_SECONDS, outcome
    assert outcome.flower.problems == [], outcome
    assert outcome.flower.opened > 0, outcome
