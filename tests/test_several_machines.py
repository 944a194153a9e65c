"""The service on several machines: API, two workers' and one for Redis and the pooler."""

import shutil
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.connections_drawing import waiting_commands
from tests.installed_servers import installed_postgres
from tests.machines import network
from tests.service import Service
from tests.spread_service import PORTS, POSTGRES_LIMIT, VISIBILITY_TIMEOUT, SpreadService, role_of

pytestmark = [pytest.mark.full, pytest.mark.xdist_group("several_machines")]

SWEEP_SECONDS = 110
"""How much later than the visibility timeout kombu may notice that a task was abandoned."""

REJOIN_SECONDS = 60
"""How soon a machine works again after its network does; six were measured on a busy one."""

DEAD_CONNECTION_SECONDS = 60
"""How soon the servers here notice that a machine is gone, as they are set."""


@pytest.fixture(scope="module")
def spread(service: Service) -> Iterator[SpreadService]:
    """The set-up project on its machines, everything running."""
    folder = service.folder.parent / "machines"
    folder.mkdir()
    project = folder / "project"
    shutil.copytree(service.folder, project, ignore=shutil.ignore_patterns(".venv"))
    copy = Service(project, service.environment)
    with ExitStack() as stack:
        machines = stack.enter_context(network())
        copy.make("setup")
        postgres = stack.enter_context(installed_postgres(folder / "postgres"))
        stack.callback(machines.close)  # the pooler before what it pools
        postgres["POSTGRES_SOCKET"] = str(folder / "postgres")
        yield SpreadService(copy, machines, postgres)


@pytest.fixture(autouse=True)
def within_the_budget(spread: SpreadService) -> Iterator[None]:
    """Whatever a test does, no process and no sum is beyond its budget at any moment of it."""
    began = time.monotonic()
    census = spread.census(spread.api)
    allowances = {each["role"]: each["allowance"] for each in census["holders"]}
    assert set(allowances) - {"others"} == {"api", "worker", "beat", "flower", "command"}
    yield
    samples = [sample for sample in spread.samples() if sample.at > began]
    assert len(samples) > (time.monotonic() - began) / 0.2
    for sample in samples:
        for name, connections in sample.by_process().items():
            assert connections <= allowances[role_of(name)], sample
        assert len(sample.connections) <= census["plan"]["total"], sample
    for each in spread.pooler_samples():
        assert each["cl_active"] + each["cl_waiting"] <= POSTGRES_LIMIT, each


def wait_until(condition: Callable[[], object], seconds: float) -> float:
    """Wait until something is true; the seconds that it took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, "it did not come true"
        time.sleep(0.1)
    return time.monotonic() - began


def test_the_api_answers_and_tasks_run_on_both_machines(spread: SpreadService) -> None:
    numbers = range(1, 41)
    for number in numbers:
        spread.send(number, 0.05)
    assert spread.accepted() >= set(numbers)
    wait_until(lambda: spread.packed().keys() >= set(numbers), 60)
    packed = spread.packed()
    assert {host for number in numbers for host in packed[number]} == {"worker-1", "worker-2"}
    assert all(len(packed[number]) == 1 for number in numbers)


def test_a_command_on_any_machine_lists_processes_by_host(spread: SpreadService) -> None:
    for host in (spread.api, spread.workers[0]):
        census = spread.census(host)
        listed = {(each["role"], each["host"]) for each in census["holders"]}
        assert listed == {
            ("api", "api"),
            ("beat", "api"),
            ("flower", "api"),
            ("worker", "worker-1"),
            ("worker", "worker-2"),
            ("command", host.name),
            ("others", ""),  # who takes the samples
        }
        assert not census["over"]
        assert not any(each["over"] for each in census["holders"])
        assert census["plan"]["sum"] == (
            "1 API x 2 + 2 worker x 4 + 1 beat x 2 + 1 Flower x 3 + 1 for commands "
            "= 16 of REDIS_CONNECTION_LIMIT 30"
        )


def test_what_waits_for_messages_is_what_the_drawing_shows(spread: SpreadService) -> None:
    began = time.monotonic()
    login = b64encode(f"flower:{spread.password}".encode()).decode()
    url = f"http://{spread.api.address}:{PORTS['flower']}/api/workers?refresh=1"
    assert spread.call("GET", url, f"Basic {login}") == "200"
    samples = [sample for sample in spread.samples() if sample.at > began]
    seen = set().union(*(sample.waiting() for sample in samples))
    drawn = {(role, each) for role, commands in waiting_commands().items() for each in commands}
    assert seen == drawn


def test_a_machine_that_is_cut_off_in_mid_task_loses_nothing_and_comes_back(
    spread: SpreadService,
) -> None:
    """Its task runs on the other machine after the visibility timeout."""
    long = 1000
    spread.send(long, VISIBILITY_TIMEOUT - 8)
    wait_until(lambda: spread.begun(long), 30)
    (name,) = spread.begun(long)
    cut, other = sorted(spread.workers, key=lambda host: host.name != name)
    cut.unplug()
    began = time.monotonic()
    number = long
    while other.name not in spread.packed().get(long, ()):
        assert time.monotonic() - began < 2 * VISIBILITY_TIMEOUT + SWEEP_SECONDS
        spread.send(number := number + 1)
        time.sleep(0.5)
    assert time.monotonic() - began > VISIBILITY_TIMEOUT

    cut.plug_in()
    back = time.monotonic()
    later = range(number + 1, number + 1000)
    while not any(cut.name in spread.packed().get(each, ()) for each in later):
        assert time.monotonic() - back < REJOIN_SECONDS
        spread.send(number := number + 1, 0.1)
        time.sleep(0.2)
    print(f"ran elsewhere after {back - began:.0f} s, back after {time.monotonic() - back:.1f} s")

    sent = set(range(long, number + 1))
    assert spread.accepted() >= sent
    wait_until(lambda: spread.packed().keys() >= sent, 60)
    # What was under way may run again, here and there; all else ran once.
    assert {each for each in sent if len(spread.packed()[each]) > 1} <= {long}


def test_a_machine_that_lost_its_power_does_not_keep_its_replacement_out(
    spread: SpreadService,
) -> None:
    """As long as the servers have its connections, they count; then there is room."""
    lost = spread.workers.pop()
    exact = {"REDIS_CONNECTION_LIMIT": "16"}
    lost.lose_power()
    began = time.monotonic()
    replacement = spread.network.host("worker-3", 5)
    refused = spread.start_worker(replacement, **exact)
    line = refused.wait_for("error: ")
    assert "3 worker x 4" in line
    assert "= 20 of REDIS_CONNECTION_LIMIT 16" in line
    assert refused.exit_status() == 1

    # A supervisor tries again.
    while (
        not (worker := spread.start_worker(replacement, **exact))
        .wait_for_any("ready.", "error: ")
        .count("ready.")
    ):
        assert worker.exit_status() == 1
        assert time.monotonic() - began < DEAD_CONNECTION_SECONDS
    print(f"replaced after {time.monotonic() - began:.0f} s")
    spread.workers.append(replacement)
    wait_until(lambda: lost.address not in spread.pooler_clients(), DEAD_CONNECTION_SECONDS)

    numbers = range(5001, 5021)
    for number in numbers:
        spread.send(number, 0.1)
    wait_until(lambda: spread.packed().keys() >= set(numbers), 60)
    assert {"worker-3"} <= {host for number in numbers for host in spread.packed()[number]}
