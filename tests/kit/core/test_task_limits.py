from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from celery import chain
from kombu.exceptions import EncodeError

from app.core.celery import celery_app
from app.core.config import settings
from kit.queue._tasks import ping
from kit.redis._pool import redis_client
from kit.redis._transport import DelayTooLongError, PayloadTooLargeError

QUEUE = "limits"
LONGEST_DELAY = settings.CELERY_VISIBILITY_TIMEOUT - settings.CELERY_TASK_MAX_SECONDS


@pytest.fixture(autouse=True)
def queue() -> Iterator[None]:
    """A queue that no worker reads."""
    yield
    redis_client().delete(f"{settings.REDIS_KEY_PREFIX}{QUEUE}")


def waiting() -> int:
    length = redis_client().llen(f"{settings.REDIS_KEY_PREFIX}{QUEUE}")
    assert isinstance(length, int)
    return length


class TestPayload:
    def test_arguments_above_the_limit_are_not_sent(self) -> None:
        with pytest.raises(PayloadTooLargeError, match=r"CELERY_PAYLOAD_LIMIT.*send its key"):
            ping.apply_async(("x" * settings.CELERY_PAYLOAD_LIMIT,), queue=QUEUE)
        assert waiting() == 0

    def test_a_task_sent_by_name_is_measured_too(self) -> None:
        with pytest.raises(PayloadTooLargeError, match="far.away"):
            celery_app.send_task("far.away", ["x" * settings.CELERY_PAYLOAD_LIMIT], queue=QUEUE)
        assert waiting() == 0

    def test_what_a_chain_carries_along_counts(self) -> None:
        half = "x" * (settings.CELERY_PAYLOAD_LIMIT // 2)
        with pytest.raises(PayloadTooLargeError):
            chain(ping.si(half), ping.si(half), ping.si(half)).apply_async(queue=QUEUE)
        assert waiting() == 0

    def test_arguments_just_below_the_limit_are_sent(self) -> None:
        ping.apply_async(("x" * (settings.CELERY_PAYLOAD_LIMIT - 100),), queue=QUEUE)
        assert waiting() == 1

    def test_what_is_no_json_is_refused(self) -> None:
        with pytest.raises(EncodeError, match="not JSON serializable"):
            ping.apply_async((object(),), queue=QUEUE)
        assert waiting() == 0


class TestDelay:
    @pytest.mark.parametrize("seconds", [LONGEST_DELAY + 5, 86400])
    def test_a_countdown_that_ends_too_late_is_not_sent(self, seconds: int) -> None:
        with pytest.raises(DelayTooLongError, match="CELERY_VISIBILITY_TIMEOUT"):
            ping.apply_async(("later",), countdown=seconds, queue=QUEUE)
        assert waiting() == 0

    @pytest.mark.parametrize("aware", [True, False])
    def test_a_moment_that_is_too_far_is_not_sent(self, aware: bool) -> None:
        eta = datetime.now(UTC) + timedelta(seconds=LONGEST_DELAY + 60)
        with pytest.raises(DelayTooLongError):
            ping.apply_async(
                ("later",), eta=eta if aware else eta.replace(tzinfo=None), queue=QUEUE
            )
        assert waiting() == 0

    def test_beside_a_moment_the_countdown_counts(self) -> None:
        with pytest.raises(DelayTooLongError):
            ping.apply_async(("later",), countdown=86400, eta=datetime.now(UTC), queue=QUEUE)
        assert waiting() == 0

    def test_a_delay_that_fits_is_sent(self) -> None:
        ping.apply_async(("soon",), countdown=LONGEST_DELAY - 5, queue=QUEUE)
        assert waiting() == 1
