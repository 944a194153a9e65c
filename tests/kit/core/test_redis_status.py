import time
from collections.abc import Callable

import pytest

from app.core.config import settings
from kit.queue._app import BEAT_LOCK_SECONDS
from kit.queue._tasks import HEARTBEAT_KEY, HEARTBEAT_SECONDS, heartbeat, read_redis_status
from kit.redis._pool import redis_client
from kit.testing._processes import RedisServer

LOCK = f"{settings.REDIS_KEY_PREFIX}redbeat::lock"


def test_what_the_server_says_is_reported(use_redis: Callable[..., RedisServer]) -> None:
    use_redis("--maxmemory", "30mb", "--maxmemory-policy", "volatile-lru", "--maxclients", "29")
    status = read_redis_status()
    assert status.version[0].isdigit()
    assert 0 < status.used_memory_bytes < 30 * 2**20
    assert status.memory_limit_bytes == 30 * 2**20
    assert status.eviction_policy == "volatile-lru"
    assert status.connected_clients == 1
    assert status.connection_limit == 29


def test_a_server_without_limits_leaves_the_plans(use_redis: Callable[..., RedisServer]) -> None:
    use_redis()
    status = read_redis_status()
    assert status.memory_limit_bytes is None
    assert status.connection_limit == settings.REDIS_CONNECTION_LIMIT


class TestHeartbeat:
    @pytest.fixture(autouse=True)
    def no_heartbeat(self) -> None:
        redis_client().delete(HEARTBEAT_KEY)

    def test_without_one_there_is_no_age(self) -> None:
        assert read_redis_status().heartbeat_age_seconds is None

    def test_the_task_leaves_a_mark_that_expires(self) -> None:
        heartbeat()
        age = read_redis_status().heartbeat_age_seconds
        assert age is not None
        assert 0 <= age < 5
        remaining = redis_client().ttl(HEARTBEAT_KEY)
        assert 0 < remaining <= 3 * HEARTBEAT_SECONDS

    def test_the_age_is_counted_from_the_mark(self) -> None:
        redis_client().set(HEARTBEAT_KEY, time.time() - 90)
        assert read_redis_status().heartbeat_age_seconds == pytest.approx(90, abs=5)


class TestBeatLock:
    def test_without_a_beat_there_is_no_age(self) -> None:
        redis_client().delete(LOCK)
        assert read_redis_status().beat_lock_age_seconds is None

    def test_the_age_is_counted_from_the_last_extension(self) -> None:
        redis_client().set(LOCK, "token", ex=BEAT_LOCK_SECONDS - 10)
        assert read_redis_status().beat_lock_age_seconds == pytest.approx(10, abs=2)
        redis_client().delete(LOCK)
