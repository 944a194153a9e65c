"""Run the whole service for development: `python -m kit.commands.dev`, or `make dev`.

Starts the embedded servers unless `.env` names others, migrates an empty database, creates the
local logins, and runs API, worker, beat and Flower until Ctrl-C. All but Flower are started again
when the code changes. While the API cannot start, every request is answered with the reason.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import uvicorn
from sqlalchemy.exc import SQLAlchemyError
from watchfiles import Change, PythonFilter, awatch

from kit.commands import run_command
from kit.commands.alive import api_url
from kit.commands.serve import refuse_taken_port
from kit.connections import refuse_more_than_the_plan
from kit.database import connect
from kit.places import service
from kit.settings import (
    BASE_DIR,
    LOCAL_WITH_REMOTE_SERVERS,
    StartupError,
    local_credentials,
    settings,
)

TOKEN_NAME = "local development"  # noqa: S105 (the name of a token)

_CELERY = (sys.executable, "-m", "celery", "--quiet", "--app", "app.core.celery:celery_app")
WORKER = (*_CELERY, "worker", "--pool", "solo", "--concurrency", "1", "--task-events")
BEAT = (*_CELERY, "beat")
FLOWER = (*_CELERY, "flower", "--conf=flowerconfig.py", "--logging=error")
API = (sys.executable, "-m", "kit.commands.serve", "--fd")

QUIET_AS_ROOT = {"PYTHONWARNINGS": "ignore:You're running the worker with superuser privileges"}
"""For containers in which people develop: Celery's warning is about production."""

WATCHED = ("app", "kit", "alembic/versions")
"""Folders; not the whole project, which has thousands of files in `.venv` and `.data`."""
WATCHED_FILES = (".env", "pyproject.toml")


def main() -> int:
    """Run all of it; returns the exit status.

    Raises:
        StartupError: when a part cannot start; its message says what to fix.
    """
    if not settings.is_local:
        raise StartupError(
            f"ENVIRONMENT is {settings.ENVIRONMENT}, but this command is for development: it "
            "prints credentials and reloads code. Use `python -m kit.commands.serve`."
        )
    settings.refuse_open_local(is_development=True)
    refuse_taken_port(settings.API_HOST, settings.API_PORT, setting="API_PORT")
    refuse_taken_port("127.0.0.1", settings.FLOWER_PORT, setting="FLOWER_PORT")
    refuse_more_than_the_plan(settings)
    # Imported only now, so that wrong settings or taken ports are reported at once.
    from kit.migrations import init_db  # noqa: PLC0415
    from kit.process import local_services_lease, start_local_services  # noqa: PLC0415

    start_local_services()
    credentials = local_credentials()
    lease = local_services_lease()
    asyncio.run(init_db())
    create_local_logins()

    from kit.devservices import Changes, Program, run_together  # noqa: PLC0415

    # Open throughout, so that requests wait while the API restarts.
    listener = uvicorn.Config(
        "", host=settings.API_HOST, port=settings.API_PORT, log_config=None
    ).bind_socket()
    listener.listen()
    flower_url = f"http://127.0.0.1:{settings.FLOWER_PORT}"
    password = settings.FLOWER_PASSWORD
    flower_password = password.get_secret_value() if password else credentials.flower_password
    status = run_together(
        [
            Program(
                "api",
                (*API, str(listener.fileno())),
                {
                    "ALLOW_UNSAFE": ",".join([*settings.ALLOW_UNSAFE, LOCAL_WITH_REMOTE_SERVERS]),
                    "API_WORKERS": "1",  # started again sooner
                },
                url=f"{api_url()}/health/live",
                restarts=True,
                listener=listener,
            ),
            Program(
                "worker",
                WORKER,
                QUIET_AS_ROOT,
                restarts=True,
                # A task of a worker that was killed runs again only after the visibility timeout.
                restart_seconds=settings.CELERY_TASK_MAX_SECONDS,
            ),
            Program("beat", BEAT, restarts=True),
            Program("flower", FLOWER, {"FLOWER_PASSWORD": flower_password}, url=flower_url),
        ],
        lease=lease,
        announcement=_announcement(
            flower_url,
            admin=(credentials.admin_username, credentials.admin_password),
            flower=(settings.FLOWER_USERNAME, flower_password),
            token=credentials.api_token,
        ),
        changes=Changes((changed_code, changed_settings), applied_revisions),
    )
    if lease is not None:
        lease.release()
    return status


def create_local_logins() -> None:
    """Create the local administrator and API token, with the credentials in `.data/`.

    A database on another machine may be shared: no logins are created there.
    """
    from kit.security import ensure_admin, ensure_api_token  # noqa: PLC0415

    if "PostgreSQL" in settings.remote_servers:
        return
    credentials = local_credentials()
    with service.sync_session_maker.begin() as session:
        ensure_admin(session, credentials.admin_username, credentials.admin_password)
        ensure_api_token(session, TOKEN_NAME, credentials.api_token)
    service.sync_engine.dispose()


async def changed_code() -> AsyncIterator[str]:
    """Wait for changes of the code, and yield the names of the files."""
    is_python = PythonFilter()
    folders = [folder for name in WATCHED if (folder := BASE_DIR / name).is_dir()]
    async for changes in awatch(
        *folders,
        watch_filter=lambda kind, path: (
            is_python(kind, path) and "tests" not in Path(path).relative_to(BASE_DIR).parts
        ),
    ):
        yield _names(changes)


async def changed_settings() -> AsyncIterator[str]:
    """Wait for changes of the files with settings, and yield their names."""
    async for changes in awatch(
        BASE_DIR, recursive=False, watch_filter=lambda _, path: Path(path).name in WATCHED_FILES
    ):
        yield _names(changes)


def _names(changes: set[tuple[Change, str]]) -> str:
    first, *others = sorted(str(Path(path).relative_to(BASE_DIR)) for _, path in changes)
    return f"{first} and {len(others)} more" if others else first


async def applied_revisions() -> list[str] | None:
    """Read the revisions that the database has; None when it cannot be reached."""
    from kit.migrations import read_rows  # noqa: PLC0415

    try:
        async with connect() as connection:
            return await connection.run_sync(read_rows)
    except (StartupError, SQLAlchemyError, OSError):
        return None


def _announcement(
    flower_url: str,
    *,
    admin: tuple[str, str],
    flower: tuple[str, str],
    token: str,
) -> str:
    remote = settings.remote_servers
    own = "PostgreSQL" not in remote
    rows = [
        ("Service", api_url(), ""),
        ("API docs", f"{api_url()}/scalar", ""),
        ("Admin", f"{api_url()}/admin", " / ".join(admin) if own else "`make admin-password`"),
        ("Flower", flower_url, " / ".join(flower)),
        ("API token", token if own else "`make token` makes one", ""),
        ("PostgreSQL", _place(settings.DATABASE_URL, embedded=settings.uses_local_postgres), ""),
        ("Redis", _place(settings.REDIS_URL, embedded=settings.uses_local_redis), ""),
    ]
    width = max(len(where) for _, where, login in rows if login)
    lines = [f"  {name:<11}{where:<{width}}  {login}".rstrip() for name, where, login in rows]
    if remote:
        lines += [
            "",
            f"  {' and '.join(remote)} is not on this machine: what you do here, is done there.",
        ]
    kept = [
        "",
        f"  Credentials and data are kept in {BASE_DIR / '.data'}",
        "  Ctrl-C stops it all.",
    ]
    return "\n".join(["", f"  {settings.PROJECT_NAME} is ready", "", *lines, *kept, ""])


def _place(url: str, *, embedded: bool) -> str:
    """The URL of an embedded server; of another server, which may be shared, without password."""
    if embedded:
        return url.replace("postgresql+asyncpg", "postgresql", 1)
    split = urlsplit(url)
    return f"{split.hostname or 'local socket'}:{split.port or ''}{split.path}"


if __name__ == "__main__":
    run_command(main)
