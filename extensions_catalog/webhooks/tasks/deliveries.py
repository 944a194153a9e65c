"""Making deliveries.

One task takes whatever is due, instead of one task a delivery: what is to be done stands in the
database, so it does not matter how often the task is sent, or whether one is lost.
"""

from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial

from app.core.celery import celery_app
from app.core.config import settings
from app.core.database import sync_session_maker
from app.extensions.webhooks.attempts import Attempt, claim_due, make, record
from app.extensions.webhooks.client import Outcome
from app.extensions.webhooks.settings import webhooks_settings
from kit.outbox import record_in_any_case, turns


@celery_app.task(name=f"{settings.CELERY_TASKS_MODULE}.webhooks.deliver_due", ignore_result=True)
def deliver_due() -> int:
    """Attempt what is due, several receivers at a time; gives how many attempts were made."""
    count = 0
    with ThreadPoolExecutor(webhooks_settings.CONCURRENCY) as threads:
        for _ in turns(deliver_due.delay):
            made = _attempt_some(threads)
            count += made
            if not made:
                break
    return count


def _attempt_some(threads: ThreadPoolExecutor) -> int:
    with sync_session_maker.begin() as session:
        attempts = claim_due(session, webhooks_settings.CONCURRENCY)
    made = {threads.submit(make, attempt): attempt for attempt in attempts}
    for future in as_completed(made):
        attempt = made[future]
        record_in_any_case(
            partial(_record, attempt, future.result()), f"delivery {attempt.delivery_id}"
        )
    return len(attempts)


def _record(attempt: Attempt, outcome: Outcome) -> None:
    with sync_session_maker.begin() as session:
        record(session, attempt, outcome)
