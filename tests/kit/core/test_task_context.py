from concurrent.futures import ThreadPoolExecutor

from app.core.task_context import get_task_id
from kit.context import bind_task_id, unbind_task_id

TASK_ID = "b83caca6-0f3f-4d6a-a8c5-2b5b0f9f7f57"


def test_outside_a_task_there_is_no_prefix() -> None:
    assert get_task_id() == ""


def test_the_prefix_is_eight_characters_in_brackets_and_a_space() -> None:
    bind_task_id(TASK_ID)
    assert get_task_id() == "[b83caca6] "
    unbind_task_id()
    assert get_task_id() == ""


def test_a_task_run_in_place_gives_way_to_the_one_around_it() -> None:
    bind_task_id(TASK_ID)
    bind_task_id("11111111-2222")
    assert get_task_id() == "[11111111] "
    unbind_task_id()
    assert get_task_id() == "[b83caca6] "
    unbind_task_id()


def test_another_thread_is_in_no_task() -> None:
    bind_task_id(TASK_ID)
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(get_task_id).result() == ""
    unbind_task_id()
