from collections.abc import Iterator

import pytest

from app.tasks.couriers import CourierBusyError, call_courier, track_parcel
from kit.testing import QueueProcess

pytestmark = pytest.mark.slow


@pytest.fixture
def couriers() -> Iterator[str]:
    """A queue with a worker."""
    with QueueProcess("worker", "--queues", "couriers") as worker:
        worker.wait_for("ready.")
        yield "couriers"


def test_calls_are_repeated(couriers: str) -> None:
    answered = call_courier.apply_async((2,), queue=couriers)
    known = track_parcel.apply_async((2,), queue=couriers)
    never = call_courier.apply_async((99,), queue=couriers)
    assert answered.get(timeout=30) == 2
    assert known.get(timeout=30) == 2
    with pytest.raises(CourierBusyError, match="no answer"):
        never.get(timeout=30)
