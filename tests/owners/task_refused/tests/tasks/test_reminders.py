from datetime import UTC, datetime, timedelta

import pytest
from celery import chain
from kombu.exceptions import EncodeError

from app.core.celery import enqueue
from app.core.config import settings
from app.tasks.reminders import remind


def test_a_reminder_of_next_week_is_refused() -> None:
    with pytest.raises(ValueError, match="use a schedule, or raise CELERY_VISIBILITY_TIMEOUT"):
        remind.apply_async(("call",), countdown=7 * 24 * 3600)
    with pytest.raises(ValueError, match="use a schedule"):
        remind.apply_async(("call",), eta=datetime.now(UTC) + timedelta(days=7))


async def test_a_long_text_is_refused() -> None:
    with pytest.raises(ValueError, match="store the data in the database and send its key"):
        await enqueue(remind, "x" * settings.CELERY_PAYLOAD_LIMIT)


def test_a_long_chain_is_refused() -> None:
    text = "x" * (settings.CELERY_PAYLOAD_LIMIT // 2)
    with pytest.raises(ValueError, match="send its key"):
        chain(remind.si(text), remind.si(text), remind.si(text))()


def test_a_set_is_refused() -> None:
    with pytest.raises(EncodeError, match="set is not JSON serializable"):
        remind.delay({"call"})
