"""Seconds and memory of importing the service, and memory of its processes after load."""

from bench.endpoints import NOTE, NOTES, write_note
from bench.load import Request, put_load
from bench.measurement import Goal, Row, in_turn
from bench.project import Project
from bench.service import production, running_api, running_worker
from bench.workshop import Workshop

SERVICE = "import app.main"
FLOOR = "import fastapi, sqlmodel"
LIBRARIES = (
    "import fastapi, sqlmodel, pydantic_settings, sqlalchemy.ext.asyncio, asyncpg, psycopg2, redis,"
    "celery.app, celery.app.task, kombu.transport.redis, alembic.script, jinja2, sqladmin, pwdlib"
)
"""All that an API process uses, and nothing of the service."""
MEASURED = """
import resource, time
started = time.perf_counter()
{statement}
print(time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def measure(workshop: Workshop) -> list[Row]:
    """Imports, an API process and a worker."""
    return [
        *_import(workshop.installed, "import", SERVICE, SERVICE, Goal(1.5)),
        *_import(workshop.installed, "import-libraries", LIBRARIES, "import its libraries alone"),
        _api_memory(workshop),
        _worker_memory(workshop),
    ]


def _import(
    project: Project, name: str, statement: str, label: str, goal: Goal | None = None
) -> list[Row]:
    """Seconds and memory."""
    subject, floor = in_turn(
        lambda: _imported(project, statement), lambda: _imported(project, FLOOR), warm_ups=1
    )
    seconds, megabytes = zip(*subject, strict=True)
    floor_seconds, floor_megabytes = zip(*floor, strict=True)
    memory = f"{label}, resident"
    return [
        Row(name, label, "s", [*seconds], [*floor_seconds], FLOOR, goal),
        Row(f"{name}-memory", memory, "MB", [*megabytes], [*floor_megabytes], FLOOR),
    ]


def _imported(project: Project, statement: str) -> tuple[float, float]:
    """Seconds and megabytes of a fresh process."""
    printed = project.run_python("-c", MEASURED.format(statement=statement))
    seconds, megabytes = map(float, printed.split())
    return seconds, megabytes


def _api_memory(workshop: Workshop) -> Row:
    settings = production(workshop.servers, workshop.servers.direct)
    with running_api(workshop.installed, settings) as api:
        note = write_note(api, workshop.token)
        samples = []
        for _ in range(5):
            put_load(api, Request("GET", f"{NOTES}/{note}", token=workshop.token), seconds=1)
            put_load(api, Request("POST", NOTES, NOTE, workshop.token), seconds=1)
            samples.append(api.resident_megabytes())
    goal = Goal(95, of_ratio=False)
    return Row("api-memory", "API process after load, resident", "MB", samples, goal=goal)


def _worker_memory(workshop: Workshop) -> Row:
    settings = production(workshop.servers, workshop.servers.direct)
    with running_worker(workshop.installed, settings) as worker:
        samples = [worker.memory_info().rss / 2**20 for _ in range(5)]
    goal = Goal(90, of_ratio=False)
    return Row("worker-memory", "solo worker, resident", "MB", samples, goal=goal)
