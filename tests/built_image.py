"""The image of a rendered service with all extensions, built once for all who run it.

Those who do are in the group `image` of xdist, or each worker builds its own.
"""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.combinations import values_of
from tests.containers import Engine, container_engine
from tests.repositories import git

IMAGE = "service"
OURS = {"VIRTUAL_ENV", "MAKEFLAGS", "MFLAGS", "MAKELEVEL"}
"""What the environment of these tests has and that of a reader lacks."""

NAPS_TASK = '''
"""A task that takes its time."""

import time

from app.core.celery import celery_app


@celery_app.task(name="app.tasks.naps.nap")
def nap(seconds: float) -> str:
    """Sleep."""
    time.sleep(seconds)
    return "slept"
'''

NAPS_ROUTE = '''
"""Requests that take their time."""

import asyncio
import time

from fastapi import APIRouter

from app.tasks.naps import nap
from kit.queue import enqueue

router = APIRouter(prefix="/naps", tags=["Naps"])
begun: list[float] = []


@router.get("")
async def read_begun() -> int:
    """Count the requests that have begun."""
    return len(begun)


@router.get("/{seconds}")
async def wait(seconds: float) -> str:
    """Answer later."""
    begun.append(seconds)
    await asyncio.sleep(seconds)
    return "slept"


@router.get("/in-a-thread/{seconds}")
def wait_in_a_thread(seconds: float) -> str:
    """Answer later."""
    begun.append(seconds)
    time.sleep(seconds)
    return "slept"


@router.post("/{seconds}")
async def wait_in_a_task(seconds: float) -> str:
    """Start a task."""
    return (await enqueue(nap, seconds)).id
'''

EXTENSIONS_SETTINGS = {
    "ACCOUNTS_SUPABASE_URL": "https://abcdefghijklmnopqrst.supabase.co",
    "MAIL_SMTP_HOST": "127.0.0.1",
    "MAIL_FROM": "service@example.com",
    "MAIL_SMTP_TLS": "none",
    "MESSENGER_APP_SECRET": "a-secret-of-the-app",
    "MESSENGER_VERIFY_TOKEN": "a-token-to-verify",
    "MESSENGER_PAGE_TOKEN": "a-token-of-the-page",
    "STORAGE_ENDPOINT_URL": "https://abcdefghijklmnopqrst.supabase.co/storage/v1/s3",
    "STORAGE_REGION": "eu-central-1",
    "STORAGE_BUCKET": "files",
    "STORAGE_ACCESS_KEY_ID": "a-key-of-the-bucket",
    "STORAGE_SECRET_ACCESS_KEY": "a-secret-of-the-bucket",
}


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    with container_engine() as engine:
        yield engine


@pytest.fixture(scope="session")
def first_commit(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone of what a copy's closing message says to commit, followed to the letter."""
    folder = tmp_path_factory.mktemp("image")
    extensions = f"extensions={json.dumps(values_of('extensions')[-1])}"
    copy = ["copier", "copy", "--defaults", "--data", extensions, str(template), "project"]
    done = subprocess.run(copy, cwd=folder, check=True, capture_output=True, text=True)
    steps = done.stderr.partition("Next:")[2].partition("  make dev")[0]
    assert "git init" in steps
    assert "git commit" in steps
    environment = {name: value for name, value in os.environ.items() if name not in OURS}
    subprocess.run(["sh", "-e", "-c", steps], cwd=folder, env=environment, check=True)
    git(folder, "clone", "--quiet", "project", "clone")
    return folder / "clone"


@pytest.fixture(scope="session")
def image_project(first_commit: Path) -> Path:
    """The service with an owner's route, an owner's task and secrets."""
    (first_commit / "app" / "tasks" / "naps.py").write_text(NAPS_TASK.lstrip(), encoding="utf-8")
    (first_commit / "app" / "api" / "naps.py").write_text(NAPS_ROUTE.lstrip(), encoding="utf-8")
    (first_commit / ".env").write_text("SECRET_KEY=not-for-the-image\n", encoding="utf-8")
    return first_commit


@pytest.fixture(scope="session")
def image(engine: Engine, image_project: Path) -> str:
    engine.build(image_project, IMAGE)
    return IMAGE
