"""What is added to a rendered service so that its tasks write down where they ran."""

from pathlib import Path

TASKS = '''
"""Packing, which writes down where it was done."""

import socket
import time

from sqlalchemy import text

from app.core.celery import celery_app
from app.core.config import BASE_DIR, settings
from app.core.database import sync_session_maker

BEGUN = text("INSERT INTO packing (number, host) VALUES (:number, :host)")


@celery_app.task(name=f"{settings.CELERY_TASKS_MODULE}.pack")
def pack(number: int, seconds: float) -> None:
    """Write a row, take this long, and leave a file."""
    host = socket.gethostname()
    with sync_session_maker() as session:
        session.execute(BEGUN, {"number": number, "host": host})
        session.commit()
    time.sleep(seconds)
    (BASE_DIR / ".data" / f"packed-{number}-{host}").touch()
'''

ROUTES = '''
"""Parcels, which are packed by a task."""

from http import HTTPStatus

from fastapi import APIRouter

from app.core.celery import enqueue
from app.core.openapi_tags import APITag
from app.tasks.packing import pack

router = APIRouter(prefix="/parcels", tags=[APITag.TASKS])


@router.post("/{number}", status_code=HTTPStatus.ACCEPTED)
async def send_parcel(number: int, seconds: float) -> None:
    """Have a parcel packed."""
    await enqueue(pack, number, seconds)
'''

CALLER = """
import sys, urllib.error, urllib.request

for line in sys.stdin:
    method, url, authorization = line.rstrip("\\n").split("\\t")
    request = urllib.request.Request(url, method=method, headers={"Authorization": authorization})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            print(url, answer.status, flush=True)
    except urllib.error.HTTPError as error:
        print(url, error.code, flush=True)
    except OSError as error:
        print(url, repr(error), flush=True)
"""
"""Makes each request that it reads from another machine's point of view."""


def add_parcels(project: Path) -> None:
    """Write the task and the route into a project."""
    (project / "app" / "tasks" / "packing.py").write_text(TASKS.lstrip(), encoding="utf-8")
    (project / "app" / "api" / "parcels.py").write_text(ROUTES.lstrip(), encoding="utf-8")
    (project / ".data").mkdir(exist_ok=True)


def packed(project: Path) -> dict[int, set[str]]:
    """On which machines each parcel was packed to the end."""
    found: dict[int, set[str]] = {}
    for path in (project / ".data").glob("packed-*"):
        _, number, host = path.name.split("-", 2)
        found.setdefault(int(number), set()).add(host)
    return found
