"""API, worker, beat and Flower together on a server of their own, and what they hold of it."""

import logging
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from app.core.config import Settings, settings
from kit.connections import Budget, redis_allowance, redis_budget
from kit.process import Role
from kit.testing import free_port
from kit.testing._processes import START_SECONDS, QueueProcess, RedisServer, run_api
from kit.tests.connection_sampler import (
    ConnectionSampler,
    Sample,
    most_by_process,
    most_by_role,
    peak,
)
from kit.tests.flower_readers import FlowerReaders
from kit.tests.heartbeats import run_heartbeat_every_second, wait_for_heartbeat
from kit.tests.task_load import RUNS, LoadReport, run_task_load

logger = logging.getLogger(__name__)

SETTLE_SECONDS = 0.5
IDLE_SECONDS = 1
FLOWER_LOGIN = ("operator", "open sesame")


@dataclass(frozen=True)
class Profile:
    """How many processes of each kind there are."""

    worker: tuple[str, ...] = ()
    """Arguments of the worker."""
    children: int = 0
    """Processes that the worker forks."""
    api_workers: int = 1

    @property
    def configuration(self) -> Settings:
        """The usual settings with these numbers, whatever the test run is configured with."""
        return settings.model_copy(update=self._numbers)

    @property
    def budget(self) -> Budget:
        """What they may hold together, by the service's own sum."""
        return redis_budget(self.configuration)

    @property
    def processes(self) -> dict[str, int]:
        """How many there are of each role."""
        numbers = {"api": self.api_workers, "worker": 1, "beat": 1, "flower": 1}
        return numbers | ({"worker-child": self.children} if self.children else {})

    def allowance(self, role: str) -> int:
        """What one process may hold."""
        return redis_allowance(self.configuration, cast("Role", role), children=0)

    def environment(self, server: RedisServer) -> dict[str, str]:
        """What the processes are told."""
        numbers = {name: str(number) for name, number in self._numbers.items()}
        return numbers | {
            "REDIS_URL": server.url,
            "REDIS_KEY_PREFIX": "",
            "REDIS_CONNECTION_LIMIT": str(self.budget.total),
            "FLOWER_PORT": str(free_port()),
            "FLOWER_USERNAME": FLOWER_LOGIN[0],
            "FLOWER_PASSWORD": FLOWER_LOGIN[1],
        }

    @property
    def _numbers(self) -> dict[str, int]:
        return {
            "API_INSTANCES": 1,
            "API_WORKERS": self.api_workers,
            "CELERY_WORKERS": 1,
            "CELERY_WORKER_CHILDREN": self.children,
            "CELERY_BEATS": 1,
            "REDIS_POOL_SIZE": 2,
        }


@dataclass
class Outcome:
    """What was seen; the sampler's own connection is in no number."""

    idle: tuple[int, int]
    """Most connections at once before and after the load."""
    peak: int
    """Most at once, from the first process's start to the end."""
    processes: dict[str, int]
    """How many of each role held connections under load."""
    most_by_role: dict[str, int]
    """Most that one process of each role held, from its start to the end."""
    fullest: dict[str, str]
    """For each role, what its process held then."""
    samples: int
    """How many were taken under load."""
    rejected: int
    runs: dict[str, int]
    """How many times the task of each id ran."""
    load: LoadReport
    flower: FlowerReaders

    def __str__(self) -> str:
        held = ", ".join(f"{role} {most}" for role, most in self.most_by_role.items())
        return (
            f"idle {self.idle}, peak {self.peak} ({held}) in {self.samples} samples, "
            f"rejected {self.rejected}; {self.load}; {self.flower}"
        )


def run_under_load(profile: Profile, directory: Path, *paths: str, tasks: int) -> Outcome:
    """Start everything on a server with exactly the connections of the budget, and load it.

    Beat sends a task each second meanwhile, and Flower's pages are read.

    Args:
        profile: what to start.
        directory: where the server may write.
        paths: where tasks are sent, in turn.
        tasks: how many.
    """
    with RedisServer(directory, "--maxclients", str(profile.budget.total)) as server:
        with ConnectionSampler(server) as sampler, ExitStack() as stack:
            address, flower = _start(profile, server, stack)
            _wait_for_processes(profile, sampler)
            idle = _most_at_rest(sampler)
            run_heartbeat_every_second(server)
            wait_for_heartbeat(server)
            began = len(sampler.samples)
            with flower:
                load = run_task_load(address, *paths, tasks=tasks)
            under_load = sampler.samples[began:]
            idle_after = _most_at_rest(sampler)
        with server.client() as client:
            runs = client.hgetall(RUNS)
            rejected = client.info("stats")["rejected_connections"]
    outcome = Outcome(
        idle=(idle, idle_after),
        peak=peak(sampler.samples),
        processes=_processes(most_by_process(under_load)),
        most_by_role=most_by_role(sampler.samples),
        fullest=sampler.fullest,
        samples=len(under_load),
        rejected=rejected,
        runs={task_id: int(count) for task_id, count in runs.items()},
        load=load,
        flower=flower,
    )
    logger.info("%s", outcome)  # `pytest -rP` shows it
    return outcome


def _start(profile: Profile, server: RedisServer, stack: ExitStack) -> tuple[str, FlowerReaders]:
    """Start everything; the API's address, and readers of Flower's pages."""
    environment = profile.environment(server)
    worker, beat, flower = (
        stack.enter_context(QueueProcess(*arguments, **environment))
        for arguments in (
            ("worker", "--include", "kit.tests.counted_tasks", *profile.worker),
            ("beat", "--max-interval", "1"),
            ("flower",),
        )
    )
    address = stack.enter_context(run_api(environment, module="kit.tests.load_service"))
    worker.wait_for("ready.")
    beat.wait_for("Acquired lock")
    flower.wait_for("Visit me")
    readers = FlowerReaders(f"http://127.0.0.1:{environment['FLOWER_PORT']}", FLOWER_LOGIN)
    readers.wait_for_worker()
    return address, readers


def _wait_for_processes(profile: Profile, sampler: ConnectionSampler) -> None:
    """Return when all are connected; children connect with their first task."""
    expected = {role: count for role, count in profile.processes.items() if role != "worker-child"}
    deadline = time.monotonic() + START_SECONDS
    while (connected := _processes(sampler.samples[-1])) != expected:
        assert time.monotonic() < deadline, connected
        time.sleep(0.1)


def _most_at_rest(sampler: ConnectionSampler) -> int:
    time.sleep(SETTLE_SECONDS)
    began = len(sampler.samples)
    time.sleep(IDLE_SECONDS)
    return peak(sampler.samples[began:])


def _processes(sample: Sample) -> dict[str, int]:
    return dict(Counter(process.role for process in sample if process))
