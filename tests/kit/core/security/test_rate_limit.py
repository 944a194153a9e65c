"""A caller may send so many requests in a minute, whichever process it sends them to."""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from types import SimpleNamespace

import httpx
import pytest
import redis
from fastapi import Depends, FastAPI
from fastapi.testclient import TestClient

from app.core.config import settings
from app.main import app
from kit.errors import Problem
from kit.redis import redis_client
from kit.security import Principal, limit_address
from kit.security import _principals as principals
from kit.security._principals import MOST_CALLERS, PAUSE, WINDOW, RateLimit
from kit.testing import free_port, own_database, run_api

LIMIT = 100
ROUTE = "/api/tasks/11111111-1111-1111-1111-111111111111"


class Clock:
    """The time of the limits, which begins with a window."""

    def __init__(self) -> None:
        self.now = 60_000_000.0

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(principals, "time", SimpleNamespace(time=clock.time))
    return clock


@pytest.fixture
def keys(clock: Clock) -> Iterator[None]:
    """Leave no counts behind."""
    yield
    for key in redis_client().scan_iter(f"{settings.REDIS_KEY_PREFIX}rate-limit:*"):
        redis_client().delete(key)


def let_through(limit: RateLimit, requests: int, caller: str = "a") -> int:
    """How many of so many requests are let through."""
    count = 0
    with suppress(Problem):
        while count < requests:
            limit.admit(caller)
            count += 1
    return count


async def reported(limit: RateLimit) -> None:
    if limit._report:
        await limit._report


class TestOneProcess:
    def test_lets_as_many_through_as_the_limit(self, clock: Clock) -> None:
        limit = RateLimit(LIMIT, 1)
        assert let_through(limit, LIMIT + 1) == LIMIT
        assert let_through(limit, 1, "another") == 1

    def test_refuses_with_the_seconds_to_wait(self, clock: Clock) -> None:
        limit = RateLimit(LIMIT, 1)
        let_through(limit, LIMIT)
        clock.now += 20.5
        with pytest.raises(Problem, match="Wait 40 s") as refusal:
            limit.admit("a")
        assert refusal.value.status_code == 429
        assert refusal.value.headers == {
            "Retry-After": "40",
            "RateLimit-Policy": '"requests";q=100;w=60',
            "RateLimit": '"requests";r=0;t=40',
        }

    @pytest.mark.parametrize("sent", [LIMIT, LIMIT // 2])
    def test_who_waited_so_long_is_let_through(self, clock: Clock, sent: int) -> None:
        limit = RateLimit(LIMIT, 1)
        let_through(limit, sent)
        clock.now += WINDOW
        let_through(limit, LIMIT)
        with pytest.raises(Problem) as refusal:
            limit.admit("a")
        clock.now += float((refusal.value.headers or {})["Retry-After"])
        assert let_through(limit, 1) == 1

    def test_the_window_slides(self, clock: Clock) -> None:
        """Of a minute's requests a half counts after half of the next minute, and then none."""
        limit = RateLimit(LIMIT, 1)
        let_through(limit, LIMIT)
        clock.now += 1.5 * WINDOW
        assert let_through(limit, LIMIT) == LIMIT // 2
        clock.now += 2 * WINDOW
        assert let_through(limit, LIMIT + 1) == LIMIT

    def test_any_number_of_callers_takes_a_bounded_memory(self, clock: Clock) -> None:
        limit = RateLimit(LIMIT, 1)
        for number in range(MOST_CALLERS + 10):
            limit.admit(str(number))
        assert len(limit._counts) == MOST_CALLERS

    def test_needs_no_redis(self, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(principals, "run_redis_call", None)
        assert let_through(RateLimit(LIMIT, 1), LIMIT + 1) == LIMIT


@pytest.mark.usefixtures("keys")
class TestProcesses:
    async def test_together_let_little_more_through(self) -> None:
        processes = [RateLimit(LIMIT, 4) for _ in range(4)]
        total = 0
        for _ in range(LIMIT):
            for each in processes:
                total += let_through(each, 1)
                await reported(each)
        assert LIMIT <= total <= 1.1 * LIMIT

    async def test_a_caller_of_few_requests_costs_no_round_trip(self) -> None:
        limit = RateLimit(LIMIT, 2)
        let_through(limit, LIMIT // 20 - 1)
        assert limit._report is None
        limit.admit("a")
        assert limit._report is not None
        await reported(limit)

    async def test_what_one_let_through_a_minute_ago_counts_for_another(self, clock: Clock) -> None:
        first, second = RateLimit(LIMIT, 2), RateLimit(LIMIT, 2)
        clock.now += WINDOW - 1
        assert let_through(first, LIMIT) == LIMIT
        await reported(first)
        clock.now += 1
        total = 0
        for _ in range(LIMIT):
            total += let_through(second, 1)
            await reported(second)
        assert total <= 0.1 * LIMIT

    async def test_counts_expire(self) -> None:
        limit = RateLimit(LIMIT, 2)
        let_through(limit, LIMIT // 2)
        await reported(limit)
        [key] = redis_client().scan_iter(f"{settings.REDIS_KEY_PREFIX}rate-limit:*")
        assert 0 < redis_client().ttl(key) <= 2 * WINDOW

    async def test_without_redis_each_limits_by_itself(
        self, clock: Clock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        gone = redis.Redis(port=free_port())
        monkeypatch.setattr(principals, "redis_client", lambda: gone)
        limit = RateLimit(LIMIT, 2)
        for _ in range(LIMIT):
            assert let_through(limit, 1) == 1
            await reported(limit)
        assert let_through(limit, 1) == 0
        assert caplog.text.count("each process keeps the rate limit") == 1
        monkeypatch.undo()

    async def test_redis_is_tried_again(
        self, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        gone = redis.Redis(port=free_port())
        limit = RateLimit(LIMIT, 2)
        with monkeypatch.context() as away:
            away.setattr(principals, "redis_client", lambda: gone)
            let_through(limit, LIMIT // 2)
            await reported(limit)
        clock.now += PAUSE
        let_through(limit, 1)
        await reported(limit)
        assert limit._counts["a"].reported == LIMIT // 2 + 1


@pytest.mark.slow
def test_processes_of_a_service_share_the_limit(test_database: str) -> None:
    processes = {"API_WORKERS": "2", "API_RATE_LIMIT": str(LIMIT), "POSTGRES_POOL_SIZE": "2"}
    statuses: Counter[int] = Counter()
    with (
        own_database() as environment,
        run_api(environment | processes) as address,
        # Each request on a connection of its own, which either process may take.
        httpx.Client(base_url=address, headers={"Connection": "close"}, timeout=60) as client,
    ):
        began = time.monotonic()
        for _ in range(5 * LIMIT // 2):
            statuses[client.get(ROUTE).status_code] += 1
        windows = 1 + (time.monotonic() - began) / WINDOW
    # Each by itself would let twice as many through.
    assert statuses[429]
    assert LIMIT <= statuses[200] < 1.2 * LIMIT * windows


class TestService:
    @pytest.fixture
    def http(self, monkeypatch: pytest.MonkeyPatch) -> TestClient:
        """The service outside of `local`, with a limit of three."""
        outside = settings.model_copy(update={"ENVIRONMENT": "production"})
        monkeypatch.setattr("kit.security._principals.settings", outside)
        monkeypatch.setattr(principals, "_rate_limit", RateLimit(3, 1))
        monkeypatch.setattr("kit.security._principals._providers", [provider])
        return TestClient(app, client=("203.0.113.9", 1))

    def test_limits_a_principal(self, http: TestClient) -> None:
        answers = [http.get(ROUTE, headers={"X-Caller": "a"}) for _ in range(4)]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
        document = answers[-1].json()
        assert document["type"].endswith("#quota-exceeded")
        assert document["violated-policies"] == ["requests"]
        assert int(answers[-1].headers["Retry-After"]) > 0
        assert http.get(ROUTE, headers={"X-Caller": "b"}).status_code == 200

    def test_limits_an_address_without_one(self, http: TestClient) -> None:
        assert [http.get(ROUTE).status_code for _ in range(4)] == [401, 401, 401, 429]
        another = TestClient(app, client=("2001:db8::1", 1))
        assert another.get(ROUTE).status_code == 401

    def test_limits_an_address_whose_credentials_a_provider_refuses(self, http: TestClient) -> None:
        answers = [http.get(ROUTE, headers={"X-Caller": "expired"}) for _ in range(4)]
        assert [answer.status_code for answer in answers] == [401, 401, 401, 429]

    def test_no_stranger_can_use_up_what_a_principal_has(self, http: TestClient) -> None:
        for _ in range(5):
            http.get(ROUTE)
        assert http.get(ROUTE, headers={"X-Caller": "a"}).status_code == 200

    def test_a_request_with_a_body_counts_once(self, http: TestClient) -> None:
        answers = [
            http.post("/api/tasks/ping", json={}, headers={"X-Caller": "a"}).status_code
            for _ in range(3)
        ]
        assert 429 not in answers

    def test_what_is_not_of_the_api_is_not_limited(self, http: TestClient) -> None:
        assert {http.get("/health/live").status_code for _ in range(5)} == {200}

    def test_a_page_is_limited_that_says_so(self, http: TestClient) -> None:
        pages = FastAPI()
        pages.get("/", dependencies=[Depends(limit_address)])(lambda: "a page")
        visitor = TestClient(pages, client=("203.0.113.9", 1))
        assert [visitor.get("/").status_code for _ in range(4)] == [200, 200, 200, 429]

    def test_an_address_has_one_count_in_both_notations(self, http: TestClient) -> None:
        for address in ("203.0.113.9", "::ffff:203.0.113.9", "203.0.113.9"):
            assert TestClient(app, client=(address, 1)).get(ROUTE).status_code == 401
        assert http.get(ROUTE).status_code == 429


async def provider(request: object) -> Principal | None:
    name = request.headers.get("X-Caller")  # type: ignore[attr-defined]
    if name == "expired":
        raise Problem(401, "The token has expired.")
    return name and Principal("api-token", name, name, scopes=frozenset({"*"}))


@pytest.mark.parametrize(
    ("environment", "value", "limit"),
    [("local", None, 0), ("production", None, 3000), ("local", 5, 5), ("production", 0, 0)],
)
def test_setting(environment: str, value: int | None, limit: int) -> None:
    changed = settings.model_copy(update={"ENVIRONMENT": environment, "API_RATE_LIMIT": value})
    assert changed.rate_limit == limit
