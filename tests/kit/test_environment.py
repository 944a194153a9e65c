import gc

import pytest
from sqlalchemy.engine import make_url

from app.core.config import settings
from kit.testing import name_of_test_database
from kit.testing._databases import refuse_other_databases


@pytest.mark.parametrize("name", ["postgres", "test", "app_testing", ""])
def test_refuses_a_database_that_is_not_for_tests(name: str) -> None:
    with pytest.raises(RuntimeError, match="names end in _test"):
        refuse_other_databases(name)


@pytest.mark.parametrize(
    ("database", "worker", "expected"),
    [
        ("postgres", None, "postgres_test"),
        ("postgres", "gw0", "postgres_gw0_test"),
        ("postgres_test", "gw11", "postgres_gw11_test"),
        ("postgres_gw1_test", "gw1", "postgres_gw1_test"),
        ("x" * 63, "gw0", "x" * 54 + "_gw0_test"),
        ("é" * 40, None, "é" * 29 + "_test"),
    ],
)
def test_name_of_test_database(database: str, worker: str | None, expected: str) -> None:
    name = name_of_test_database(database, worker)

    assert name == expected
    assert len(name.encode()) <= 63


def test_this_run_uses_a_test_database_and_keys_of_its_own() -> None:
    refuse_other_databases(make_url(settings.DATABASE_URL).database or "")
    assert settings.REDIS_KEY_PREFIX.startswith("test-")


def test_garbage_is_collected_once_the_service_is_imported() -> None:
    assert gc.isenabled()
