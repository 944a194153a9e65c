"""Programs run together and end together, and nothing is left of them."""

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import psutil  # type: ignore[import-untyped]
import pytest

from app.core.config import BASE_DIR
from kit.tests.devservices.project import gone, wait_until

pytestmark = pytest.mark.slow

RUN = """
import sys
from kit.devservices._runner import Program, run_together
programs = [
    Program(f"program{number}", [sys.executable, "-c", code])
    for number, code in enumerate(sys.argv[2:], 1)
]
programs[0] = Program("program1", programs[0].command, url=sys.argv[1] or None)
sys.exit(run_together(programs, lease=None, announcement="all is up"))
"""
WAIT = "import time; print('waiting', flush=True); time.sleep(600)"
WAIT_WITH_CHILD = (
    "import subprocess, sys, time;"
    "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']);"
    "print('waiting', flush=True); time.sleep(600)"
)
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    "print('waiting', flush=True); time.sleep(600)"
)


class Run:
    """The runner in a process of its own, and all that it started."""

    def __init__(self, command: tuple[str, ...], environment: dict[str, str] | None = None) -> None:
        self.process = subprocess.Popen(
            command,
            # Unbuffered, as in many containers and terminals of editors.
            env={
                **os.environ,
                "PYTHONPATH": str(BASE_DIR),
                "PYTHONUNBUFFERED": "1",
                **(environment or {}),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines: list[str] = []

    def wait_for(self, line: str, times: int = 1) -> None:
        assert self.process.stdout is not None
        while self.lines.count(line) < times:
            self.lines.append(self.process.stdout.readline().rstrip("\n"))
            assert self.lines[-1] or self.process.poll() is None, self.lines

    def started(self) -> list[psutil.Process]:
        children: list[psutil.Process] = psutil.Process(self.process.pid).children(recursive=True)
        return children

    def end(self) -> int:
        output, _ = self.process.communicate(timeout=30)
        self.lines += output.splitlines()
        return self.process.returncode


Start = Callable[..., Run]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts the runner with the given programs; ends it after a test that failed."""
    runs: list[Run] = []

    def start(*programs: str, url: str = "") -> Run:
        runs.append(Run((sys.executable, "-c", RUN, url, *programs)))
        return runs[-1]

    yield start
    for run in runs:
        run.process.terminate()
        run.process.communicate(timeout=30)


def test_one_that_ends_ends_all_and_is_named(start: Start) -> None:
    run = start(WAIT, "import sys; sys.exit(3)", WAIT)
    assert run.end() == 1
    assert "program2 ended with status 3; stopping the rest." in run.lines


def test_one_that_is_killed_is_named(start: Start) -> None:
    run = start(WAIT, "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    assert run.end() == 1
    assert "program2 was ended by SIGKILL; stopping the rest." in run.lines


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_told_to_stop_it_ends_all(start: Start, number: signal.Signals) -> None:
    run = start(WAIT, WAIT_WITH_CHILD)
    run.wait_for("program1 | waiting")
    run.wait_for("program2 | waiting")
    started = run.started()
    assert len(started) == 3
    run.process.send_signal(number)
    assert run.end() == 0
    wait_until(lambda: gone(*started))


def test_a_second_ctrl_c_does_not_wait(start: Start) -> None:
    run = start(STUBBORN, WAIT)
    run.wait_for("program1 | waiting")
    run.process.send_signal(signal.SIGINT)
    time.sleep(0.3)  # Two signals at once are one.
    began = time.monotonic()
    run.process.send_signal(signal.SIGINT)
    assert run.end() == 0
    assert time.monotonic() - began < 6


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells children of their parent")
def test_killed_it_takes_all_along(start: Start) -> None:
    run = start(WAIT, WAIT)
    run.wait_for("program1 | waiting")
    run.wait_for("program2 | waiting")
    started = run.started()
    run.process.kill()
    run.process.communicate()
    wait_until(lambda: gone(*started))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells of any process's end")
def test_a_killed_make_takes_all_along(tmp_path: Path) -> None:
    makefile = tmp_path / "Makefile"
    makefile.write_text('run:\n\t@"$$PYTHON" -c "$$RUN" "" "$$WAIT" "$$WAIT"\n')
    run = Run(("make", "-f", str(makefile)), {"PYTHON": sys.executable, "RUN": RUN, "WAIT": WAIT})
    try:
        run.wait_for("program1 | waiting")
        run.wait_for("program2 | waiting")
        started = run.started()
    finally:
        run.process.kill()
        run.process.communicate()
    assert len(started) >= 3
    wait_until(lambda: gone(*started))


def test_output_is_prefixed_however_long_or_odd_it_is(start: Start) -> None:
    run = start(
        "import os; os.write(1, b'x' * 200_000 + b'\\n\\xff\\nno newline')",
    )
    assert run.end() == 1
    assert f"program1 | {'x' * 200_000}" in run.lines
    assert "program1 | \N{REPLACEMENT CHARACTER}" in run.lines
    assert "program1 | no newline" in run.lines


class _Refuses(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_error(401)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def url_that_refuses() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), _Refuses) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_the_announcement_comes_when_the_url_answers(
    start: Start, url_that_refuses: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    run = start(WAIT, url=url_that_refuses)
    run.wait_for("all is up")
    run.process.send_signal(signal.SIGINT)
    assert run.end() == 0


RESTART = """
import asyncio, socket, sys
from pathlib import Path
from kit.devservices import Changes, Program, _runner, run_together

_runner.CRASH_SECONDS = _runner.NOTICE_SECONDS = 0.5
program, state, changed = sys.argv[1:]

async def changes():
    while not Path(changed).exists():
        await asyncio.sleep(0.05)
    Path(changed).unlink()
    yield "app/x.py"

async def read_state():
    return Path(state).read_text()

listener = socket.create_server(("127.0.0.1", 0))
print("port", listener.getsockname()[1], flush=True)
command = [sys.executable, "-c", program, state]
status = run_together(
    [
        Program("api", command, restarts=True, restart_seconds=30, listener=listener),
        Program("flower", [sys.executable, "-c", "import time; time.sleep(600)"]),
    ],
    lease=None, announcement="", changes=Changes((changes,), read_state),
)
sys.exit(status)
"""
WAITS_FOR_STATE = """
import sys, time
from pathlib import Path
if Path(sys.argv[1]).read_text() != "migrated":
    sys.exit("Run <make db-upgrade> first.")
print("up", flush=True)
time.sleep(600)
"""
WORKS_ON = """
import signal, sys, time

def finish(*_):
    time.sleep(2)
    sys.exit("finished")

signal.signal(signal.SIGTERM, finish)
print("waiting", flush=True)
time.sleep(600)
"""
LONG_ENOUGH = 0.8
"""Seconds for which a program has to run to be started again when it is killed."""


class Restarted(Run):
    """The runner with one program that restarts; files stand for the code and the database."""

    def __init__(self, program: str, folder: Path) -> None:
        self.state, self.changed = folder / "state", folder / "changed"
        self.state.write_text("")
        super().__init__(
            (sys.executable, "-c", RESTART, program, str(self.state), str(self.changed))
        )
        self.wait_for_text("port ")
        self.url = f"http://127.0.0.1:{self.lines[-1].split()[1]}"

    def wait_for_text(self, text: str) -> None:
        assert self.process.stdout is not None
        while not self.lines or text not in self.lines[-1]:
            self.lines.append(self.process.stdout.readline().rstrip("\n"))
            assert self.lines[-1] or self.process.poll() is None, self.lines

    def answer(self, path: str = "/", **headers: str) -> tuple[int, str, str]:
        request = urllib.request.Request(f"{self.url}{path}", b"x" * 200_000, headers)
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(request, timeout=5)
        with caught.value as error:
            return error.code, error.headers["Content-Type"], error.read().decode()

    def only_program(self) -> psutil.Process:
        [process] = [each for each in self.started() if str(self.state) in each.cmdline()]
        return process


@pytest.fixture
def restarted(tmp_path: Path) -> Iterator[Callable[[str], Restarted]]:
    runs: list[Restarted] = []

    def start(program: str) -> Restarted:
        runs.append(Restarted(program, tmp_path))
        return runs[-1]

    yield start
    for run in runs:
        run.process.terminate()
        run.process.communicate(timeout=30)


class TestRestart:
    def test_one_that_was_killed_is_started_again(
        self, restarted: Callable[[str], Restarted]
    ) -> None:
        run = restarted(WAIT)
        run.wait_for("api    | waiting")
        time.sleep(LONG_ENOUGH)
        run.only_program().kill()
        began = time.monotonic()
        run.wait_for("api was ended by SIGKILL; it is started again.")
        assert time.monotonic() - began < 3
        run.wait_for("api    | waiting", times=2)

    def test_one_that_kills_itself_waits_for_a_change(
        self, restarted: Callable[[str], Restarted]
    ) -> None:
        run = restarted("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
        run.wait_for_text("api was ended by SIGSEGV; it starts again when")
        run.changed.touch()
        run.wait_for_text("app/x.py changed: restarting api.")
        run.wait_for_text("api was ended by SIGSEGV; it starts again when")

    def test_one_that_runs_is_restarted_at_a_change(
        self, restarted: Callable[[str], Restarted]
    ) -> None:
        run = restarted(WAIT_WITH_CHILD)
        run.wait_for("api    | waiting")
        before = run.only_program()
        with_child = [before, *before.children()]
        run.changed.touch()
        run.wait_for("api    | waiting", times=2)
        wait_until(lambda: gone(*with_child))

    def test_one_that_works_finishes_before_it_is_restarted(
        self, restarted: Callable[[str], Restarted]
    ) -> None:
        run = restarted(WORKS_ON)
        run.wait_for("api    | waiting")
        run.changed.touch()
        run.wait_for("api finishes its work before it restarts.")
        run.wait_for("api    | waiting", times=2)
        assert "api    | finished" in run.lines

    def test_while_it_is_down_requests_are_answered_with_the_remedy(
        self, restarted: Callable[[str], Restarted]
    ) -> None:
        run = restarted(WAITS_FOR_STATE)
        run.wait_for_text("api ended with status 1; it starts again when")
        assert run.answer("/", Accept="text/html")[:2] == (503, "text/html; charset=utf-8")
        assert "Run &lt;make db-upgrade&gt; first." in run.answer("/", Accept="text/html")[2]
        status, kind, body = run.answer("/api/x", Accept="text/html")
        assert (status, kind) == (503, "application/problem+json")
        assert "Run <make db-upgrade> first." in body

    def test_it_comes_back_by_itself_when_the_state_changes(
        self, restarted: Callable[[str], Restarted]
    ) -> None:
        run = restarted(WAITS_FOR_STATE)
        run.wait_for_text("api ended with status 1; it starts again when")
        run.state.write_text("migrated")
        began = time.monotonic()
        run.wait_for("api    | up")
        assert time.monotonic() - began < 3

    def test_it_stops_with_a_program_that_is_down(
        self, restarted: Callable[[str], Restarted]
    ) -> None:
        run = restarted("import sys; sys.exit(2)")
        run.wait_for_text("api ended with status 2; it starts again when")
        run.process.send_signal(signal.SIGINT)
        assert run.end() == 0
