import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from app.core.config import BASE_DIR
from kit.tests.pgbouncer import pgbouncer

PROCESSES = 3
TRANSACTIONS = 600

pytestmark = pytest.mark.slow


def outcomes_under_load(environment: dict[str, str], isolation: str) -> Counter[str]:
    """What 600 transactions in three processes came to."""
    processes = [
        subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("pooler_load.py")), isolation],
            cwd=BASE_DIR,
            env={**os.environ, **environment, "PYTHONPATH": str(BASE_DIR)},
            stdout=subprocess.PIPE,
        )
        for _ in range(PROCESSES)
    ]
    outputs = [process.communicate(timeout=60)[0] for process in processes]
    return sum((Counter(json.loads(output)) for output in outputs), Counter())


@pytest.mark.parametrize("isolation", ["transaction", "autocommit"])
@pytest.mark.parametrize(
    ("mode", "pooler_size", "process_size"),
    [
        # In session mode a connection is lent for as long as it is open, so the sum of all pools
        # has to fit. In transaction mode it is lent for one transaction, so it need not.
        pytest.param("session", 6, 2, id="session"),
        pytest.param("transaction", 5, 10, id="transaction"),
    ],
)
def test_concurrent_transactions_behind_a_pooler(
    test_database: str, mode: str, pooler_size: int, process_size: int, isolation: str
) -> None:
    with pgbouncer(mode, pool_size=pooler_size) as environment:
        sizes = {"POSTGRES_POOL_SIZE": str(process_size), "POSTGRES_POOL_TIMEOUT": "30"}
        outcomes = outcomes_under_load({**environment, **sizes}, isolation)

    assert outcomes == {"right": TRANSACTIONS}


def test_statement_caches_would_break_behind_a_transaction_pooler(test_database: str) -> None:
    """The test above can fail: with the caches on, which it rules out, it does."""
    with pgbouncer("transaction", pool_size=5) as environment:
        caches_on = {"POSTGRES_POOLER": "none", "POSTGRES_POOL_SIZE": "10"}
        outcomes = outcomes_under_load({**environment, **caches_on}, "transaction")

    assert sum(outcomes.values()) == TRANSACTIONS
    assert outcomes["right"] < TRANSACTIONS
