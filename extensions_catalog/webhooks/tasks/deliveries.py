"""Making deliveries.

One task takes whatever is due, instead of one task a delivery: what is to be done stands in the
database, so it does not matter how often the task is sent, or whether one is lost.
"""

import time
from concurrent.futures import ThreadPoolExecutor, as_completed

from app.core.celery import celery_app
from app.core.config import settings
from app.core.database import sync_session_maker
from app.extensions.webhooks.attempts import claim_due, make, record
from app.extensions.webhooks.settings import webhooks_settings

RUN_SECONDS = 30
"""After that, other tasks of the worker get their turn."""


@celery_app.task(name=f"{settings.CELERY_TASKS_MODULE}.webhooks.deliver_due", ignore_result=True)
def deliver_due() -> int:
    """Attempt what is due, several receivers at a time; gives how many attempts were made."""
    ends_at = time.monotonic() + RUN_SECONDS
    count = 0
    with ThreadPoolExecutor(webhooks_settings.CONCURRENCY) as threads:
        while made := _attempt_some(threads):
            count += made
            if time.monotonic() > ends_at:
                deliver_due.delay()
                break
    return count


def _attempt_some(threads: ThreadPoolExecutor) -> int:
    with sync_session_maker.begin() as session:
        attempts = claim_due(session, webhooks_settings.CONCURRENCY)
    made = {threads.submit(make, attempt): attempt for attempt in attempts}
    for outcome in as_completed(made):
        with sync_session_maker.begin() as session:
            record(session, made[outcome], outcome.result())
    return len(attempts)
