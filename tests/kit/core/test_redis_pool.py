import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import redis
from kombu.exceptions import EncodeError, OperationalError

from app.core.celery import celery_app, enqueue
from app.core.config import BASE_DIR, Settings, settings
from kit.connections import redis_allowance
from kit.process import Role, client_name, parse_process_name
from kit.queue._tasks import ping
from kit.redis._pool import RedisPoolBusyError, build_pool, redis_client, run_redis_call
from kit.testing import free_port
from kit.testing._processes import QueueProcess, RedisServer
from kit.tests.connection_sampler import ConnectionSampler, most_by_role
from kit.tests.tls_program import tls_program


@pytest.fixture
def observer() -> Iterator[redis.Redis]:
    """A connection of its own, to look at the others."""
    with redis.Redis.from_url(settings.REDIS_URL, decode_responses=True) as client:
        yield client


@pytest.fixture
def queue(observer: redis.Redis) -> Iterator[str]:
    """A queue that no worker reads."""
    yield "pool"
    observer.delete(f"{settings.REDIS_KEY_PREFIX}pool")


@pytest.mark.slow
class TestCrowd:
    """Many threads in one process, on a server that has no connection more than the budget."""

    @pytest.fixture
    def server(self, tmp_path: Path) -> Iterator[RedisServer]:
        """A server for a worker, an API process and whoever looks at it."""
        connections = sum(redis_allowance(settings, role, children=0) for role in CROWD_ROLES) + 1
        with RedisServer(tmp_path, "--maxclients", str(connections)) as server:
            yield server
            with server.client() as client:
                assert client.info("stats")["rejected_connections"] == 0

    @pytest.fixture
    def worker_there(self, server: RedisServer) -> Iterator[QueueProcess]:
        with QueueProcess("worker", REDIS_URL=server.url) as worker:
            worker.wait_for("ready.")
            yield worker

    @pytest.mark.usefixtures("worker_there")
    def test_that_sends_asks_and_waits_for_results(self, server: RedisServer) -> None:
        seconds, peaks = run_crowd("send_ask_and_wait", server)
        assert seconds < 60
        assert peaks["api"] == settings.REDIS_POOL_SIZE
        assert peaks["worker"] <= redis_allowance(settings, "worker", children=0)

    @pytest.mark.usefixtures("worker_there")
    def test_that_inspects_and_revokes(self, server: RedisServer) -> None:
        seconds, peaks = run_crowd("inspect_and_revoke", server)
        # Those who wait for one another would never end.
        assert seconds < 60
        assert peaks["api"] == settings.REDIS_POOL_SIZE

    def test_that_finds_redis_standing_still_is_told_in_time(self, server: RedisServer) -> None:
        seconds, peaks = run_crowd("send_in_vain", server, REDIS_POOL_TIMEOUT="1")
        assert seconds < 30
        assert peaks["api"] == settings.REDIS_POOL_SIZE


CROWD_ROLES: tuple[Role, ...] = ("api", "worker")


def run_crowd(name: str, server: RedisServer, **environment: str) -> tuple[float, dict[str, int]]:
    """How long a crowd of `kit.tests.crowd` took, and the most that a process of each role held."""
    with ConnectionSampler(server) as sampler:
        began = time.monotonic()
        subprocess.run(
            [sys.executable, "-m", "kit.tests.crowd", name],
            cwd=BASE_DIR,
            env=os.environ | {"REDIS_URL": server.url} | environment,
            check=True,
            timeout=120,
        )
        seconds = time.monotonic() - began
    return seconds, most_by_role(sampler.samples)


@pytest.mark.slow
class TestLimit:
    def test_a_caller_waits_for_a_connection_that_comes_free(self) -> None:
        pool = build_pool(settings, "command")
        held = [pool.get_connection() for _ in range(settings.REDIS_POOL_SIZE)]
        threading.Timer(0.2, pool.release, [held[0]]).start()

        assert redis.Redis(connection_pool=pool).ping() is True

        pool.disconnect()

    def test_a_caller_that_waited_in_vain_gets_a_clear_error(self) -> None:
        impatient = settings.model_copy(update={"REDIS_POOL_TIMEOUT": 0.1})
        pool = build_pool(impatient, "command")
        for _ in range(settings.REDIS_POOL_SIZE):
            pool.get_connection()

        with pytest.raises(RedisPoolBusyError, match=r"in use for 0.1 s \(REDIS_POOL_SIZE"):
            redis.Redis(connection_pool=pool).ping()

        pool.disconnect()

    def test_a_busy_pool_is_not_tried_again_by_the_sender(
        self, queue: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pool = redis_client().connection_pool
        monkeypatch.setattr(pool, "timeout", 0.5)
        held = [pool.get_connection() for _ in range(settings.REDIS_POOL_SIZE)]
        began = time.monotonic()

        with pytest.raises(RedisPoolBusyError):
            ping.apply_async(("late",), queue=queue)

        seconds = time.monotonic() - began
        for connection in held:
            pool.release(connection)
        assert seconds < 1.5  # three more tries would take two

    @pytest.mark.slow
    def test_a_sender_that_got_no_answer_does_not_send_twice(
        self, use_redis: Callable[..., RedisServer], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        server = use_redis()
        monkeypatch.setitem(redis_client().connection_pool.connection_kwargs, "socket_timeout", 0.3)
        ping.apply_async(("warm",), queue="pool")
        with server.client() as control:
            control.client_pause(1000)
            began = time.monotonic()

            with pytest.raises(redis.TimeoutError):
                ping.apply_async(("late",), queue="pool")

            assert time.monotonic() - began < 0.9
            # The server runs what reached it, once it goes on.
            assert control.llen(f"{settings.REDIS_KEY_PREFIX}pool") <= 2

    @pytest.mark.slow
    def test_a_server_that_is_gone_is_told_within_two_seconds(self, tmp_path: Path) -> None:
        with RedisServer(tmp_path) as server:
            environment = os.environ | {"REDIS_URL": server.url}
        answer = run_python(SEND_TO_NOBODY, environment)
        assert answer.returncode == 0, answer.stderr
        seconds = float(answer.stdout)
        assert seconds < 2


def run_python(code: str, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )


SEND_TO_NOBODY = f"""
import time
from kombu.exceptions import OperationalError
from kit.queue._tasks import ping
began = time.monotonic()
try:
    ping.delay("nobody")
except {OperationalError.__name__}:
    print(time.monotonic() - began)
"""


class TestNames:
    def test_a_connection_says_whose_it_is(self, observer: redis.Redis) -> None:
        pool: Any = build_pool(settings, "beat")
        pool.release(pool.get_connection())
        names = [each["name"] for each in observer.client_list()]
        pool.disconnect()
        assert client_name(settings, "beat") in names

    @pytest.mark.parametrize("name", ["Shop", "Größe & Co. 東京", "", "a b\nc"])
    def test_any_project_name_gives_a_name_that_redis_takes(self, name: str) -> None:
        configuration = settings.model_copy(update={"PROJECT_NAME": name})
        pool = build_pool(configuration, "worker")
        connection = pool.get_connection()
        pool.disconnect()
        told = client_name(configuration, "worker")
        assert connection.client_name == told
        parsed = parse_process_name(told)
        assert parsed is not None
        assert (parsed.role, parsed.pid) == ("worker", os.getpid())

    def test_a_stranger_is_nobody(self) -> None:
        assert parse_process_name("redis-cli") is None


@pytest.mark.slow
class TestAsyncCode:
    async def test_the_event_loop_goes_on_while_redis_stands_still(
        self, use_redis: Callable[..., RedisServer]
    ) -> None:
        server = use_redis()
        await enqueue(ping, "warm")
        with server.client() as control:
            control.client_pause(60_000, all=False)  # whoever writes
            sending = asyncio.create_task(enqueue(ping, "paused"))
            for _ in range(20):
                await asyncio.sleep(0.005)
            assert not sending.done()
            control.client_unpause()
        assert (await sending).id

    async def test_a_call_that_finds_no_thread_gets_a_clear_error(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        release = threading.Event()
        stalled = [
            asyncio.create_task(run_redis_call(release.wait))
            for _ in range(settings.REDIS_POOL_SIZE)
        ]
        await asyncio.sleep(0)
        impatient = settings.model_copy(update={"REDIS_POOL_TIMEOUT": 0.1})
        monkeypatch.setattr("kit.redis._pool.settings", impatient)

        with pytest.raises(RedisPoolBusyError, match="no thread"):
            await run_redis_call(lambda: None)

        release.set()
        await asyncio.gather(*stalled)

    async def test_a_call_that_has_begun_tells_its_outcome_however_late(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        impatient = settings.model_copy(update={"REDIS_POOL_TIMEOUT": 0.05})
        monkeypatch.setattr("kit.redis._pool.settings", impatient)

        def slow() -> str:
            threading.Event().wait(0.2)
            return "sent"

        assert await run_redis_call(slow) == "sent"


class TestResults:
    def test_a_result_above_the_limit_is_refused(self) -> None:
        with pytest.raises(EncodeError, match="CELERY_PAYLOAD_LIMIT"):
            celery_app.backend.store_result(
                "too-large", "x" * settings.CELERY_PAYLOAD_LIMIT, "SUCCESS"
            )

    def test_results_expire(self, observer: redis.Redis) -> None:
        celery_app.backend.store_result("expires", "value", "SUCCESS")
        key = f"{settings.REDIS_KEY_PREFIX}celery-task-meta-expires"
        remaining = observer.ttl(key)
        assert isinstance(remaining, int)
        assert settings.CELERY_RESULT_EXPIRES - 5 <= remaining <= settings.CELERY_RESULT_EXPIRES
        celery_app.AsyncResult("expires").forget()
        assert not observer.exists(key)


@pytest.fixture(scope="module")
def tls_port(certificates: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Port of a server that speaks TLS alone to those who ask for it."""
    program = tls_program()
    if program is None:
        pytest.skip("neither valkey-server nor redis-server with TLS is installed")
    port = free_port()
    options = [f"--tls-port {port}", "--tls-auth-clients no"]
    files = {"cert": "localhost.crt", "key": "localhost.key", "ca-cert": "ca.crt"}
    options += [f"--tls-{option}-file {certificates / file}" for option, file in files.items()]
    words = [word for option in options for word in option.split(" ")]
    with RedisServer(tmp_path_factory.mktemp("tls"), *words, program=program):
        yield port


def tls_settings(url: str, ca_file: Path | None = None) -> Settings:
    return Settings.model_validate({"REDIS_URL": url, "REDIS_CA_FILE": ca_file})


@pytest.mark.slow
class TestTls:
    def test_an_unknown_authority_is_refused(self, tls_port: int) -> None:
        pool = build_pool(tls_settings(f"rediss://localhost:{tls_port}/0"), "command")
        with pytest.raises(redis.ConnectionError, match="CERTIFICATE_VERIFY_FAILED"):
            redis.Redis(connection_pool=pool).ping()

    def test_a_certificate_for_another_name_is_refused(
        self, tls_port: int, certificates: Path
    ) -> None:
        configuration = tls_settings(f"rediss://127.0.0.1:{tls_port}/0", certificates / "ca.crt")
        with pytest.raises(redis.ConnectionError, match="CERTIFICATE_VERIFY_FAILED"):
            redis.Redis(connection_pool=build_pool(configuration, "command")).ping()

    def test_without_verification_any_certificate_is_taken(self, tls_port: int) -> None:
        url = f"rediss://127.0.0.1:{tls_port}/0"
        configuration = Settings.model_validate({"REDIS_URL": url, "REDIS_TLS_VERIFY": False})
        assert redis.Redis(connection_pool=build_pool(configuration, "command")).ping()

    @pytest.mark.parametrize("is_verified", [True, False])
    def test_a_worker_runs_a_task_over_tls(
        self, tls_port: int, certificates: Path, is_verified: bool
    ) -> None:
        environment = {"REDIS_URL": f"rediss://localhost:{tls_port}/0"}
        if is_verified:
            environment["REDIS_CA_FILE"] = str(certificates / "ca.crt")
        else:  # as with Heroku's, whose certificate no authority has signed
            environment["REDIS_TLS_VERIFY"] = "false"
        with QueueProcess("worker", **environment) as worker:
            sent = run_python(SEND_AND_WAIT, os.environ | environment)
            worker.wait_for("pong: over TLS")
        assert sent.stdout.strip() == "over TLS", sent.stderr


SEND_AND_WAIT = """
import app.tasks
from kit.queue import ping
print(ping.delay("over TLS").get(timeout=30)["message"])
"""
