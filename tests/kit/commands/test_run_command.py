"""What all commands have in common."""

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest
from sqlalchemy import text

from app.core.config import BASE_DIR
from kit.testing import RedisServer
from kit.testing._databases import database_engine
from kit.testing._processes import own_database

pytestmark = pytest.mark.slow

COMMANDS = ("connections", "connections --json", "db status", "doctor", "env_example", "token list")


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.usefixtures("test_engine")
def test_it_ends_quietly_when_its_reader_is_gone(command: str) -> None:
    """As with `| head`."""
    module, *arguments = command.split()
    reader, writer = os.pipe()
    os.close(reader)
    result = subprocess.run(
        [sys.executable, "-m", f"kit.commands.{module}", *arguments],
        cwd=BASE_DIR,
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=60,
    )
    os.close(writer)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.usefixtures("test_engine")
def test_ctrl_c_at_a_question_is_no_stack_trace() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "kit.commands.db", "reset"],
        cwd=BASE_DIR,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509
    )
    assert process.stdout is not None
    assert process.stdout.read(8) == b"All data"
    # A signal between the question and the reading of its answer is only handled after that.
    while psutil.Process(process.pid).status() != psutil.STATUS_SLEEPING:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (130, b"")


def run(command: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", *f"kit.commands.{command}".split()],
        cwd=BASE_DIR,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("refusal", "user", "remedy"),
    [
        ("", "", "Start it, or correct REDIS_URL"),
        ("CONFIG SET requirepass rotated", ":former@", "Start it, or correct REDIS_URL"),
        ("CONFIG SET maxclients 1", "", "End what else is connected to it"),
        ("ACL SETUSER few on >few ~* &* +@all -info -lrange", "few:few@", "Give that user the"),
    ],
    ids=["away", "password", "no connection left", "few rights"],
)
@pytest.mark.usefixtures("test_engine")
def test_a_redis_that_cannot_be_used_is_one_line_with_the_remedy(
    tmp_path: Path, refusal: str, user: str, remedy: str
) -> None:
    with RedisServer(tmp_path) as server, closing(server.client()) as operator:
        if refusal:
            operator.execute_command(*refusal.split())
        else:
            server.kill()
        environment = {"REDIS_URL": server.url.replace("//", f"//{user}"), "REDIS_KEY_PREFIX": ""}
        results = {name: run(name, **environment) for name in ("connections", "dead_letters")}
        doctor = run("doctor", **environment).stdout
    expected = rf"Redis cannot be used \(.+\)\.(?: |\n +-> ){remedy}.*\."
    for result in results.values():
        assert result.returncode == 1
        [line] = result.stderr.splitlines()
        assert re.fullmatch(f"error: {expected}", line), line
    assert re.search(f"problem  redis: {expected}", doctor), doctor


CHANGES = ("token create x", "token revoke x", "admin_password set x", "admin_password revoke x")


@pytest.mark.parametrize("command", CHANGES)
def test_a_database_that_refuses_is_one_line_that_names_the_doctor(command: str) -> None:
    with own_database() as environment:
        assert run("token list", **environment).returncode == 0  # which migrates
        with database_engine(environment["POSTGRES_DB"]).connect() as connection:
            name = connection.dialect.identifier_preparer.quote(environment["POSTGRES_DB"])
            read_only = f"ALTER DATABASE {name} SET default_transaction_read_only = on"
            connection.execute(text(read_only))
        result = run(command, **environment)
    assert result.returncode == 1
    [line] = result.stderr.splitlines()
    assert "in a read-only transaction)" in line
    assert line.endswith("`make doctor` names the cause and the remedy.")
