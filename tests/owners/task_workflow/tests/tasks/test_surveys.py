from collections.abc import Iterator

import pytest
from celery import chain, chord, group
from httpx import AsyncClient

from app.core.celery import celery_app
from app.tasks.surveys import count_answer, print_sum, sum_answers
from kit.testing import QueueProcess

pytestmark = pytest.mark.slow
SECONDS = 30


@pytest.fixture(autouse=True, scope="module")
def running_worker() -> Iterator[None]:
    with QueueProcess("worker") as worker:
        worker.wait_for("ready.")
        yield


def test_a_chain() -> None:
    task = chain(count_answer.s(4), print_sum.s("one"))()
    assert task.get(timeout=SECONDS) == "one: 8"


def test_a_group() -> None:
    tasks = group(count_answer.s(each) for each in range(4)).delay()
    assert tasks.get(timeout=SECONDS) == [0, 2, 4, 6]


def test_a_chord() -> None:
    task = chord(count_answer.s(each) for each in range(4))(sum_answers.s())
    assert task.get(timeout=SECONDS) == 12


def test_a_group_in_a_chain() -> None:
    halves = group(count_answer.s(), count_answer.s())
    task = chain(count_answer.s(1), halves, sum_answers.s())()
    assert task.get(timeout=SECONDS) == 8


def test_starmap() -> None:
    task = count_answer.starmap([(1,), (2,)]).delay()
    assert task.get(timeout=SECONDS) == [2, 4]


def test_a_chord_with_an_error_fails_as_a_whole() -> None:
    task = chord([count_answer.s(1), count_answer.s(-1)])(sum_answers.s())
    with pytest.raises(Exception, match="-1 is no answer"):
        task.get(timeout=SECONDS)


async def test_from_the_api(client: AsyncClient) -> None:
    answer = await client.post("/api/surveys", json={"answers": [1, 2, 3]})
    assert celery_app.AsyncResult(answer.json()).get(timeout=SECONDS) == "all: 12"
