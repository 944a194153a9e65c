"""Requests a CPU second of the server's process: read a row, create a row, health."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from bench.load import Request, put_load
from bench.measurement import Goal, Row, in_turn
from bench.service import POOL_SIZE, Server, production, running_api, running_floor
from bench.workshop import Workshop

NOTE = json.dumps({"title": "Shopping", "body": "milk, bread and a newspaper"})
NOTES = "/api/example/notes"
UNIT = "requests/CPU s"
OWN = "/api/measured"
FLOOR = "Starlette and a bare asyncpg pool"
SENDING_FLOOR = f"{FLOOR}, and Celery's `delay` in a thread"
TOKENS = 100_000
MEASURED = Path(__file__).parent / "in_project" / "measured_notes.py"
GOALS = {
    "direct": {"read": 0.30, "read-session": 0.22, "create": 0.30, "send": 0.6},
    "pooler": {"read": 0.38, "read-session": 0.26, "create": 0.34},
}


def measure(workshop: Workshop) -> list[Row]:
    """Read and create directly and behind PgBouncer, and health."""
    servers = workshop.servers
    urls = {"direct": servers.direct, "pooler": servers.pooler}
    rows = [row for how, url in urls.items() if url for row in _database(workshop, how, url)]
    return [*rows, _tokens(workshop), _health(workshop)]


@contextmanager
def both(workshop: Workshop, url: str) -> Iterator[tuple[Server, Server]]:
    """The service and the floor on one database."""
    settings = production(workshop.servers, url)
    floor_settings = {
        "DATABASE_URL": url,
        "REDIS_URL": workshop.servers.redis,
        "POOL_SIZE": str(POOL_SIZE),
        "POOLER": settings["POSTGRES_POOLER"],
    }
    with (
        _measured_endpoints(workshop.installed.folder / "app" / "api" / "measured.py"),
        running_api(workshop.installed, settings) as service,
        running_floor(workshop.installed, "asyncpg_tasks:app", floor_settings) as floor,
    ):
        yield service, floor


@contextmanager
def _measured_endpoints(module: Path) -> Iterator[None]:
    shutil.copyfile(MEASURED, module)
    try:
        yield
    finally:
        module.unlink()


def write_note(service: Server, token: str) -> str:
    """Create a note; its id."""
    return str(json.loads(service.call("POST", NOTES, NOTE, token))["id"])


def _database(workshop: Workshop, how: str, url: str) -> list[Row]:
    where = "behind PgBouncer" if how == "pooler" else "directly"
    goals = GOALS[how]
    rows = []
    with both(workshop, url) as (service, floor):
        note = write_note(service, workshop.token)
        compared = (
            ("read", "read a row", "GET", f"{NOTES}/{note}", f"/notes/{note}"),
            ("read-session", "read a row with a session", "GET", f"{OWN}/session/{note}", ""),
            ("create", "create a row, nothing sent", "POST", OWN, "/notes"),
            ("create-session", "create a row with a session", "POST", f"{OWN}/session", "/notes"),
            ("send", "create a row and send a task", "POST", f"{OWN}/sending", "/notes/sending"),
            ("message", "the same with a session and a message", "POST", NOTES, "/notes/sending"),
        )
        for name, what, method, path, floor_path in compared:
            body = NOTE if method == "POST" else ""
            samples, floor_samples = _compare(
                (service, Request(method, path, body, workshop.token)),
                (floor, Request(method, floor_path or f"/notes/{note}", body)),
            )
            floor_is = SENDING_FLOOR if "sending" in floor_path else FLOOR
            goal = Goal(goals[name], at_least=True) if name in goals else None
            title = f"{what}, {where}"
            rows.append(Row(f"{name}-{how}", title, UNIT, samples, floor_samples, floor_is, goal))
    return rows


def _tokens(workshop: Workshop) -> Row:
    """With more tokens than are used twice in the minute for which one is known."""
    settings = production(workshop.servers, workshop.servers.direct)
    tokens = workshop.folder / "tokens"
    script = Path(__file__).parent / "in_project" / "many_tokens.py"
    workshop.project.run_python(str(script), str(tokens), str(TOKENS), **settings)
    with running_api(workshop.installed, settings) as service:
        path = f"{NOTES}/{write_note(service, workshop.token)}"
        one = Request("GET", path, token=workshop.token)
        samples, floor_samples = _compare((service, replace(one, tokens=tokens)), (service, one))
    what = f"read a row with each of {TOKENS:,} tokens in turn"
    goal = Goal(0.9, at_least=True)
    return Row("tokens", what, UNIT, samples, floor_samples, "with one token", goal)


def _health(workshop: Workshop) -> Row:
    settings = production(workshop.servers, workshop.servers.direct)
    with (
        running_api(workshop.installed, settings) as service,
        running_floor(workshop.installed, "starlette_hello:app") as floor,
    ):
        samples, floor_samples = _compare(
            (service, Request("GET", "/health/live")), (floor, Request("GET", "/hello"))
        )
    goal = Goal(0.44, at_least=True)
    floor_is = "Starlette's hello"
    return Row("health", "health endpoint", UNIT, samples, floor_samples, floor_is, goal)


def _compare(*subjects: tuple[Server, Request]) -> list[list[float]]:
    return in_turn(*(partial(_rate, *subject) for subject in subjects), warm_ups=1)


def _rate(server: Server, request: Request) -> float:
    return put_load(server, request).requests_per_cpu_second
