"""Requests a CPU second of the server's process: read a row, create a row, health."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from bench.load import Request, put_load
from bench.measurement import Goal, Row, in_turn
from bench.service import POOL_SIZE, Server, production, running_api, running_floor
from bench.workshop import Workshop

NOTE = json.dumps({"title": "Shopping", "body": "milk, bread and a newspaper"})
NOTES = "/api/example/notes"
UNIT = "requests/CPU s"
FLOOR = "Starlette and a bare asyncpg pool"


def measure(workshop: Workshop) -> list[Row]:
    """Read and create directly and behind PgBouncer, and health."""
    servers = workshop.servers
    urls = {"direct": servers.direct, "pooler": servers.pooler}
    rows = [row for how, url in urls.items() if url for row in _database(workshop, how, url)]
    return [*rows, _health(workshop)]


@contextmanager
def both(workshop: Workshop, url: str) -> Iterator[tuple[Server, Server]]:
    """The service and the floor on one database."""
    settings = production(workshop.servers, url)
    floor_settings = {
        "DATABASE_URL": url,
        "POOL_SIZE": str(POOL_SIZE),
        "POOLER": settings["POSTGRES_POOLER"],
    }
    with (
        running_api(workshop.installed, settings) as service,
        running_floor(workshop.installed, "asyncpg_notes:app", floor_settings) as floor,
    ):
        yield service, floor


def write_note(service: Server, token: str) -> str:
    """Create a note; its id."""
    return str(json.loads(service.call("POST", NOTES, NOTE, token))["id"])


def _database(workshop: Workshop, how: str, url: str) -> list[Row]:
    with both(workshop, url) as (service, floor):
        note = write_note(service, workshop.token)
        read = _compare(
            (service, Request("GET", f"{NOTES}/{note}", token=workshop.token)),
            (floor, Request("GET", f"/notes/{note}")),
        )
        create = _compare(
            (service, Request("POST", NOTES, NOTE, workshop.token)),
            (floor, Request("POST", "/notes", NOTE)),
        )
    where = "behind PgBouncer" if how == "pooler" else "directly"
    return [
        Row(f"{name}-{how}", f"{name} a row, {where}", UNIT, samples, floor_samples, FLOOR, goal)
        for name, (samples, floor_samples), goal in (
            ("read", read, Goal(0.30, at_least=True)),
            ("create", create, Goal(0.25, at_least=True)),
        )
    ]


def _health(workshop: Workshop) -> Row:
    settings = production(workshop.servers, workshop.servers.direct)
    with (
        running_api(workshop.installed, settings) as service,
        running_floor(workshop.installed, "starlette_hello:app") as floor,
    ):
        samples, floor_samples = _compare(
            (service, Request("GET", "/health/live")), (floor, Request("GET", "/hello"))
        )
    goal = Goal(0.40, at_least=True)
    floor_is = "Starlette's hello"
    return Row("health", "health endpoint", UNIT, samples, floor_samples, floor_is, goal)


def _compare(*subjects: tuple[Server, Request]) -> list[list[float]]:
    return in_turn(*(partial(_rate, *subject) for subject in subjects), warm_ups=1)


def _rate(server: Server, request: Request) -> float:
    return put_load(server, request).requests_per_cpu_second
