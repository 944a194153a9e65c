"""What all commands have in common."""

import os
import signal
import subprocess
import sys
import time

import psutil  # type: ignore[import-untyped]
import pytest

from app.core.config import BASE_DIR

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
