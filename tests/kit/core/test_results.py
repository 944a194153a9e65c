from collections.abc import Callable
from typing import Any

import celery.exceptions
import pytest
import redis
from celery.app.trace import build_tracer
from pydantic_core import ValidationError
from sqlalchemy.exc import OperationalError

from app.core.celery import celery_app
from app.core.config import settings
from kit.queue._tasks import ping
from kit.redis import _transport as redis_transport
from kit.testing import change_settings
from kit.testing._processes import RedisServer


class Clock:
    """Time that passes only while somebody sleeps; the task ends after so many looks."""

    def __init__(self, *, ends_after: int | None = None) -> None:
        self.now = 1000.0
        self.pauses: list[float] = []
        self._ends_after = ends_after

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.pauses.append(seconds)
        if len(self.pauses) == self._ends_after:
            celery_app.backend.store_result("awaited", "value", "SUCCESS")


class TestWaiting:
    """`AsyncResult.get` looks often at first, and then less and less often."""

    @pytest.fixture
    def use_clock(
        self, server: RedisServer, monkeypatch: pytest.MonkeyPatch
    ) -> Callable[[Clock], Clock]:
        def use(clock: Clock) -> Clock:
            monkeypatch.setattr(redis_transport, "time", clock)
            return clock

        return use

    def test_pauses_double_up_to_the_interval(self, use_clock: Callable[[Clock], Clock]) -> None:
        clock = use_clock(Clock(ends_after=7))

        assert celery_app.AsyncResult("awaited").get(interval=0.1) == "value"

        assert clock.pauses == [0.01, 0.02, 0.04, 0.08, 0.1, 0.1, 0.1]

    def test_ends_with_its_time(self, use_clock: Callable[[Clock], Clock]) -> None:
        clock = use_clock(Clock())

        with pytest.raises(
            celery.exceptions.TimeoutError, match="awaited has not ended within 0.1"
        ):
            celery_app.AsyncResult("awaited").get(timeout=0.1)

        assert sum(clock.pauses) == pytest.approx(0.1)

    def test_what_is_there_needs_no_pause(self, use_clock: Callable[[Clock], Clock]) -> None:
        clock = use_clock(Clock())
        celery_app.backend.store_result("awaited", "value", "SUCCESS")

        assert celery_app.AsyncResult("awaited").get(timeout=0) == "value"

        assert clock.pauses == []

    def test_tells_of_each_look_in_vain(self, use_clock: Callable[[Clock], Clock]) -> None:
        use_clock(Clock(ends_after=3))
        looks: list[None] = []

        backend: Any = celery_app.backend
        backend.wait_for("awaited", on_interval=lambda: looks.append(None))

        assert len(looks) == 3


class TestStoring:
    @pytest.mark.parametrize(
        ("state", "result"), [("SUCCESS", "value"), ("FAILURE", ValueError("wrong"))]
    )
    def test_costs_two_commands(self, observer: redis.Redis, state: str, result: Any) -> None:
        observer.config_resetstat()

        celery_app.backend.store_result("stored", result, state)

        assert commands(observer) == {"get": 1, "set": 1}

    def test_lasts_as_long_as_the_settings_say(self, observer: redis.Redis) -> None:
        celery_app.backend.store_result("stored", "value", "SUCCESS")

        [key] = observer.keys("*stored")
        lasts = int(observer.ttl(key))

        assert settings.CELERY_RESULT_EXPIRES - 5 < lasts <= settings.CELERY_RESULT_EXPIRES


@pytest.mark.parametrize(
    "error",
    [
        ValidationError.from_exception_data(
            "Order", [{"type": "missing", "loc": ("number",), "input": {}}]
        ),
        OperationalError("SELECT 1", {}, ValueError("gone")),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_that_cannot_be_made_again_keeps_its_kind_and_its_words(error: Exception) -> None:
    celery_app.backend.store_result("failed", error, "FAILURE")
    read: Any = celery_app.AsyncResult("failed").result
    assert (read.exc_cls_name, str(read)) == (type(error).__name__, str(error))


def test_a_task_that_took_too_long_is_reported(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run: Any = build_tracer(ping.name, ping, app=celery_app)
    run("short", ("here",), {}, {"id": "short", "is_eager": False})
    assert "CELERY_TASK_MAX_SECONDS" not in caplog.text

    change_settings(monkeypatch, CELERY_TASK_MAX_SECONDS=0)
    run("long", ("here",), {}, {"id": "long", "is_eager": False})

    assert "ran 0 s, longer than CELERY_TASK_MAX_SECONDS (0)" in caplog.text


def test_a_task_costs_no_more_than_its_result(observer: redis.Redis) -> None:
    """That it has begun is noted only where it is declared with `track_started=True`."""
    request = {"id": "run", "is_eager": False}
    observer.config_resetstat()

    run: Any = build_tracer(ping.name, ping, app=celery_app)
    run("run", ("here",), {}, request)

    assert commands(observer) == {"get": 1, "set": 1}
    assert celery_app.AsyncResult("run").get(timeout=0) == {"message": "here", "request_id": ""}


def commands(observer: redis.Redis) -> dict[str, int]:
    """How often the server has run each command, but those with which connections begin."""
    found = observer.info("commandstats")
    counts = {name.removeprefix("cmdstat_"): stat["calls"] for name, stat in found.items()}
    first = ("client", "hello", "auth", "config", "info", "ping")
    return {name: count for name, count in counts.items() if not name.startswith(first)}
