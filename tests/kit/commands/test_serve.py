"""The API refuses to start with one line and status 1, and serves with what the settings say."""

import http.client
import os
import re
import secrets
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from app.core.config import BASE_DIR, StartupError
from kit.commands.serve import refuse_taken_port
from kit.devservices._data import port_is_free
from kit.testing import free_port, own_database, run_api
from kit.tests.background import Background
from kit.tests.devservices.project import wait_until

SERVE = (sys.executable, "-m", "kit.commands.serve")
NOBODY_LISTENS = "postgresql://postgres:x@127.0.0.1:9/postgres"


def serve(*options: str, **settings: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*SERVE, *options],
        cwd=BASE_DIR,
        env=os.environ | settings,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


class TestRefuseTakenPort:
    def test_a_host_that_is_not_this_machine(self) -> None:
        with pytest.raises(StartupError, match=r"port 8000 of 192\.0\.2\.1.*API_PORT"):
            refuse_taken_port("192.0.2.1", 8000, setting="API_PORT")

    def test_a_name_that_nobody_knows(self) -> None:
        with pytest.raises(StartupError, match="not an address of this machine"):
            refuse_taken_port("no.such.host.invalid", 8000, setting="API_PORT")

    @pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "localhost"])  # noqa: S104
    def test_a_free_port_is_fine(self, host: str) -> None:
        refuse_taken_port(host, free_port(), setting="API_PORT")


@pytest.mark.slow
def test_a_port_in_use_is_one_line_and_status_1() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        result = serve(API_PORT=str(port))
    assert result.returncode == 1
    assert result.stdout == ""
    [line] = result.stderr.splitlines()
    assert line.startswith(f"error: port {port} of 127.0.0.1 is in use by another program")
    assert "set API_PORT to another port" in line


@pytest.mark.slow
def test_a_wrong_setting_is_told_before_anything_starts() -> None:
    result = serve(API_PORT="no number")
    assert result.returncode == 1
    [line] = result.stderr.splitlines()
    assert line.startswith("error: API_PORT")


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_without_its_database_it_does_not_start(workers: str) -> None:
    result = serve(DATABASE_URL=NOBODY_LISTENS, API_WORKERS=workers, API_PORT=str(free_port()))
    assert result.returncode != 0
    assert "Traceback" not in result.stderr
    assert len(re.findall("127.0.0.1:9", result.stderr)) == 1


START_SECONDS = 120
"""On a busy machine; several workers listen only once each has slept as `SLOW_START` says."""


def serving(port: int, **environment: str) -> "subprocess.Popen[bytes]":
    process = subprocess.Popen(
        SERVE, cwd=BASE_DIR, env=os.environ | environment, stderr=subprocess.DEVNULL
    )
    try:
        wait_until(lambda: not port_is_free(port), START_SECONDS)
    except BaseException:
        process.kill()
        process.wait()
        raise
    return process


SLOW_START = """
import sys, time
if any("spawn_main" in each for each in sys.orig_argv):
    time.sleep(12)
"""


@pytest.mark.slow
@pytest.mark.usefixtures("test_engine")
def test_several_workers_start_on_a_machine_that_takes_its_time(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(SLOW_START)
    slowly = {"API_WORKERS": "2", "POSTGRES_CONNECTION_LIMIT": "60", "PYTHONPATH": str(tmp_path)}
    port = free_port()
    with serving(port, API_PORT=str(port), **slowly) as process:
        try:
            answer = httpx.get(f"http://127.0.0.1:{port}/health/live", timeout=60)
        finally:
            process.terminate()
    assert answer.status_code == 200


@pytest.mark.slow
@pytest.mark.usefixtures("test_engine")
@pytest.mark.parametrize(("proxies", "scheme"), [("127.0.0.0/8", "https"), ("10.0.0.1", "http")])
def test_it_serves_behind_a_platforms_proxy(proxies: str, scheme: str) -> None:
    """At the platform's port, below the proxy's path, and for the proxies that are named."""
    port = free_port()
    # In lower case, as uvicorn itself does not read it.
    named = {"forwarded_allow_ips": proxies, "API_ROOT_PATH": "/shop", "PORT": str(port)}
    process = serving(port, **named)
    try:
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/admin/", headers={"X-Forwarded-Proto": "https"}
        )
        with pytest.raises(urllib.error.HTTPError) as redirect:
            urllib.request.build_opener(NoRedirect()).open(request, timeout=10)
        with redirect.value as answer:
            location = answer.headers["Location"]
    finally:
        process.terminate()
        process.wait(15)

    assert location == f"{scheme}://127.0.0.1:{port}/shop/admin/login"


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows no redirection."""

    def redirect_request(self, *_: object) -> None:
        """Not at all."""


@pytest.mark.slow
@pytest.mark.usefixtures("test_engine")
def test_it_serves_without_telling_what_it_is() -> None:
    port = free_port()
    process = serving(port, API_PORT=str(port))
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/live", timeout=10) as answer:
            assert answer.status == 200
            assert "server" not in answer.headers
    finally:
        process.terminate()
        assert process.wait(15) in (0, -15)


@pytest.mark.slow
@pytest.mark.usefixtures("test_engine")
def test_it_is_not_ready_before_it_ends() -> None:
    port = free_port()
    process = serving(port, API_PORT=str(port), API_DRAIN_SECONDS="30")
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10) as http:
            wait_until(lambda: http.get("/health/ready").status_code == 200, 60)
            process.terminate()
            wait_until(lambda: http.get("/health/ready").status_code == 503, 25)
            answer = http.get("/health/ready")
            assert answer.json()["detail"] == "This process is about to end."
            assert int(answer.headers["Retry-After"]) > 0
            assert http.get("/health/live").status_code == 200
            assert process.poll() is None
    finally:
        process.terminate()  # once more, which ends it
        assert process.wait(15) in (0, -15)


@pytest.mark.slow
@pytest.mark.usefixtures("test_engine")
@pytest.mark.parametrize("workers", ["1", "2"])
def test_what_connects_before_the_end_is_answered_and_what_connects_after_waits(
    workers: str,
) -> None:
    """On a socket of systemd's, which stays open from one process to the next."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        environment = os.environ | {"API_WORKERS": workers, "POSTGRES_CONNECTION_LIMIT": "60"}

        def start() -> "subprocess.Popen[bytes]":
            return subprocess.Popen(
                [*SERVE, "--fd", str(listener.fileno())],
                cwd=BASE_DIR,
                env=environment,
                pass_fds=[listener.fileno()],
                stderr=subprocess.DEVNULL,
            )

        def ask(connection: http.client.HTTPConnection) -> None:
            connection.request("POST", "/health/live", b"{}")

        first, early, late = (
            http.client.HTTPConnection("127.0.0.1", port, timeout=60) for _ in range(3)
        )

        process = start()
        try:
            ask(first)
            assert first.getresponse().status == 405
            early.connect()
            time.sleep(0.5)  # until it is accepted
            process.terminate()
            time.sleep(0.3)  # until the signal has arrived
            ask(early)
            assert early.getresponse().status == 405
            assert process.wait(15) in (0, -15)
            ask(late)
            process = start()
            assert late.getresponse().status == 405
        finally:
            process.terminate()
            process.wait(15)
            for connection in (first, early, late):
                connection.close()


class Callers(Background):
    """Clients behind a balancer that asks each API whether it is ready, ten times a second."""

    def __init__(self) -> None:
        super().__init__([self._look, *[self._call] * 5])
        self.addresses: list[str] = []
        self.answers: Counter[int | str] = Counter()
        self._ready: list[str] = []

    def _look(self) -> None:
        with httpx.Client(timeout=5) as http:
            while not self._end.wait(0.1):
                self._ready = [each for each in [*self.addresses] if self._is_ready(http, each)]

    def _is_ready(self, http: httpx.Client, address: str) -> bool:
        try:
            return http.get(f"{address}/health/ready").status_code == 200
        except httpx.HTTPError:
            return False

    def _call(self) -> None:
        with httpx.Client(timeout=30) as http:
            while not self._end.wait(0.1):
                if ready := self._ready:
                    try:
                        answer = http.get(f"{secrets.choice(ready)}/api/lasting/count")
                        self.answers[answer.status_code] += 1
                    except httpx.HTTPError as error:
                        self.answers[repr(error)] += 1


@pytest.mark.slow
@pytest.mark.load
def test_a_rolling_deploy_fails_no_request(test_database: str) -> None:
    with own_database() as environment, Callers() as callers:
        quick = environment | {"API_DRAIN_SECONDS": "3", "API_WORKERS": "1", "API_INSTANCES": "3"}

        def start() -> tuple[ExitStack, str]:
            stack = ExitStack()
            address = stack.enter_context(run_api(quick, module="kit.tests.lasting_service"))
            callers.addresses.append(address)
            return stack, address

        running = [start(), start()]
        try:
            for _ in range(2):
                wait_until(lambda: callers.answers[200] > 20, 60)
                running.append(start())
                stack, address = running.pop(0)
                stack.close()  # SIGTERM, and its end
                callers.addresses.remove(address)
                callers.answers[200] = 0
                wait_until(lambda: callers.answers[200] > 20, 60)
        finally:
            for stack, _ in running:
                stack.close()
    assert set(callers.answers) == {200}
