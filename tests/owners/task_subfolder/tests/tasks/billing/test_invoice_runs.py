import pytest

from app.core.celery import celery_app
from app.tasks.billing.invoice_runs import run_invoices
from kit.testing import QueueProcess


def test_writes_the_invoices_of_a_month() -> None:
    assert run_invoices("2026-05") == "invoices of 2026-05"


@pytest.mark.slow
def test_the_worker_finds_it() -> None:
    with QueueProcess("worker", "--queues", "billing") as worker:
        worker.wait_for("ready.")
        task = celery_app.send_task(run_invoices.name, ["2026-05"], queue="billing")
        assert task.get(timeout=30) == "invoices of 2026-05"
