import os
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from app.core.config import BASE_DIR, Settings, StartupError
from kit.connections import (
    postgres_budget,
    postgres_pool_size,
    redis_allowance,
    redis_budget,
    refuse_more_than_the_plan,
)
from kit.testing import free_port

COUNTS: dict[str, Any] = {
    "API_INSTANCES": 1,
    "API_WORKERS": 1,
    "CELERY_WORKERS": 1,
    "CELERY_WORKER_CHILDREN": 0,
    "CELERY_BEATS": 1,
    "REDIS_POOL_SIZE": 2,
    "REDIS_CONNECTION_LIMIT": 30,
    "POSTGRES_POOL_SIZE": None,
    "POSTGRES_SYNC_POOL_SIZE": 1,
    "POSTGRES_CONNECTION_LIMIT": 15,
}
"""The defaults, whatever the test run is configured with."""


def configured(**changes: Any) -> Settings:
    return Settings(_env_file=None, **(COUNTS | changes))


DEFAULTS = configured()


class TestRedis:
    def test_one_process_of_each_kind(self) -> None:
        budget = redis_budget(configured())
        assert budget.spelled_out() == (
            "1 API x 2 + 1 worker x 4 + 1 beat x 2 + 1 Flower x 3 + 1 for commands "
            "= 12 of REDIS_CONNECTION_LIMIT 30"
        )
        assert budget.total == 12
        assert not budget.is_exceeded

    @pytest.mark.parametrize(
        ("changes", "total"),
        [
            ({"API_WORKERS": 2, "API_INSTANCES": 3}, 22),
            ({"CELERY_WORKERS": 4}, 24),
            ({"CELERY_BEATS": 2}, 14),
            ({"CELERY_WORKERS": 0, "CELERY_BEATS": 0}, 6),
            ({"CELERY_WORKER_CHILDREN": 2}, 16),
            ({"CELERY_WORKERS": 2, "CELERY_WORKER_CHILDREN": 2}, 24),
            ({"REDIS_POOL_SIZE": 1}, 8),
        ],
    )
    def test_every_count_is_in_the_sum(self, changes: dict[str, Any], total: int) -> None:
        assert redis_budget(configured(**changes)).total == total

    def test_a_worker_that_says_how_many_it_forks_is_believed(self) -> None:
        assert redis_allowance(configured(), "worker", children=3) == 10
        assert redis_budget(configured(CELERY_WORKERS=2), children=3).total == 28

    def test_exactly_the_limit_is_within_it(self) -> None:
        assert not redis_budget(configured(REDIS_CONNECTION_LIMIT=12)).is_exceeded
        assert redis_budget(configured(REDIS_CONNECTION_LIMIT=11)).is_exceeded


class TestPostgres:
    def test_the_pool_takes_what_is_left_up_to_ten(self) -> None:
        assert postgres_budget(configured()).spelled_out() == (
            "1 API x 10 + 1 admin x 1 + 1 worker x 1 + 1 for commands "
            "= 13 of POSTGRES_CONNECTION_LIMIT 15"
        )

    @pytest.mark.parametrize(
        ("changes", "size"),
        [
            ({"POSTGRES_CONNECTION_LIMIT": 60}, 10),
            ({"API_WORKERS": 2}, 5),
            ({"API_INSTANCES": 2}, 5),
            ({"API_INSTANCES": 2, "API_WORKERS": 2}, 2),
            ({"API_WORKERS": 4, "CELERY_WORKERS": 3}, 1),
            ({"CELERY_WORKERS": 8}, 5),
            ({"CELERY_WORKER_CHILDREN": 8}, 5),
            ({"POSTGRES_SYNC_POOL_SIZE": 3}, 8),
            ({"POSTGRES_CONNECTION_LIMIT": 1}, 1),
            ({"POSTGRES_POOL_SIZE": 14}, 14),
        ],
    )
    def test_it_is_shared_out(self, changes: dict[str, Any], size: int) -> None:
        assert postgres_pool_size(configured(**changes)) == size

    @given(
        st.fixed_dictionaries(
            {
                "POSTGRES_CONNECTION_LIMIT": st.integers(1, 200),
                "API_INSTANCES": st.integers(1, 5),
                "API_WORKERS": st.integers(1, 8),
                "CELERY_WORKERS": st.integers(0, 20),
                "CELERY_WORKER_CHILDREN": st.integers(0, 8),
                "POSTGRES_SYNC_POOL_SIZE": st.integers(1, 4),
            }
        )
    )
    def test_a_computed_size_fits_wherever_any_does(self, changes: dict[str, int]) -> None:
        configuration = DEFAULTS.model_copy(update=changes)
        smallest = configuration.model_copy(update={"POSTGRES_POOL_SIZE": 1})
        assume(not postgres_budget(smallest).is_exceeded)

        assert not postgres_budget(configuration).is_exceeded

    @pytest.mark.parametrize("value", [0, -1])
    def test_a_pool_of_nothing_is_refused(self, value: int) -> None:
        with pytest.raises(ValueError, match="POSTGRES_POOL_SIZE"):
            configured(POSTGRES_POOL_SIZE=value)


class TestRefusal:
    def test_what_fits_is_not_refused(self) -> None:
        refuse_more_than_the_plan(configured())

    def test_both_sums_are_spelled_out_with_what_to_do(self) -> None:
        with pytest.raises(StartupError) as caught:
            refuse_more_than_the_plan(configured(API_WORKERS=16, REDIS_CONNECTION_LIMIT=30))
        redis, postgres = caught.value.message.splitlines()
        assert "16 API x 2 + 1 worker x 4 + 1 beat x 2" in redis
        assert "= 42 of REDIS_CONNECTION_LIMIT 30" in redis
        assert "raise REDIS_CONNECTION_LIMIT" in redis
        assert "16 API x 1 + 16 admin x 1 + 1 worker x 1 + 1 for commands = 34 of" in postgres
        # What is computed cannot be lowered.
        assert "POSTGRES_POOL_SIZE" not in postgres

    def test_a_size_that_was_set_is_honoured_and_checked(self) -> None:
        with pytest.raises(StartupError, match="1 API x 14 .*= 17 of.*POSTGRES_POOL_SIZE"):
            refuse_more_than_the_plan(configured(POSTGRES_POOL_SIZE=14))


CELERY = ("celery", "--app", "app.core.celery:celery_app")
STARTS = {
    "serve": ("kit.commands.serve",),
    "uvicorn": ("uvicorn", "app.main:app", "--port", "0"),
    "worker": (*CELERY, "worker"),
    "beat": (*CELERY, "beat"),
    "flower": (*CELERY, "flower"),
    "dev": ("kit.commands.dev",),
}


@pytest.mark.slow
@pytest.mark.parametrize("command", STARTS.values(), ids=STARTS)
@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"REDIS_CONNECTION_LIMIT": "11"}, "= 12 of REDIS_CONNECTION_LIMIT 11"),
        ({"API_WORKERS": "13"}, "13 API x 1 + 13 admin x 1 + 1 worker x 1 + 1 for commands = 28"),
    ],
    ids=["redis", "postgres"],
)
def test_no_process_starts_beyond_the_plan(
    command: tuple[str, ...], environment: dict[str, str], expected: str
) -> None:
    """Nor does it try to connect: nobody listens where these settings point."""
    nowhere = {
        "DATABASE_URL": "postgresql://postgres:x@127.0.0.1:9/postgres",
        "REDIS_URL": "redis://127.0.0.1:9/0",
        "API_PORT": str(free_port()),
        "FLOWER_PORT": str(free_port()),
    }
    result = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=BASE_DIR,
        env=os.environ | nowhere | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    said = result.stdout + result.stderr
    assert result.returncode != 0
    assert expected in said
    assert "Traceback" not in said
    assert "refused" not in said
    assert "reached" not in said


@pytest.mark.slow
@pytest.mark.parametrize("children", [("--concurrency", "10"), ("--autoscale", "10,2")])
def test_a_worker_counts_the_children_of_its_command_line(children: tuple[str, ...]) -> None:
    command = (*CELERY, "worker", "--pool", "processes", *children)
    result = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=BASE_DIR,
        env=os.environ | {"REDIS_URL": "redis://127.0.0.1:9/0", "REDIS_CONNECTION_LIMIT": "30"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert result.returncode == 1
    assert "1 worker x 24 + " in result.stderr
