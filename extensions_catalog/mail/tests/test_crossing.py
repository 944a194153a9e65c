"""From a request over the API to what the SMTP server gets, with workers that may be killed."""

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import NamedTuple

import httpx
import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.pool import NullPool

from app.extensions.mail.tests.mail_server import MailServer
from kit.testing import QueueProcess, own_database, run_api

pytestmark = pytest.mark.slow

SECONDS = 30


class Service(NamedTuple):
    """An API on a database of its own, whose workers the test starts."""

    client: httpx.Client
    server: MailServer
    database: Engine
    start_worker: Callable[[], QueueProcess]

    def queue_mail(self, number: int = 0) -> None:
        answer = self.client.post("/api/mail/test", json={"to": f"guest{number}@example.com"})
        assert answer.status_code == 202, answer.text

    def mails(self) -> list[dict[str, object]]:
        mails: list[dict[str, object]] = self.client.get("/api/mail/messages").json()
        return mails


@pytest.fixture
def service() -> Iterator[Service]:
    with (
        MailServer() as server,
        own_database() as environment,
        ExitStack() as processes,
    ):
        environment |= {"MAIL_SMTP_HOST": "127.0.0.1", "MAIL_SMTP_PORT": str(server.port)}
        environment |= {"MAIL_SMTP_TLS": "none", "MAIL_FROM": "shop@example.com"}
        address = processes.enter_context(run_api(environment))
        client = processes.enter_context(httpx.Client(base_url=address))
        url = make_url(environment["DATABASE_URL"]).set(drivername="postgresql+psycopg2")

        def start_worker() -> QueueProcess:
            worker = processes.enter_context(QueueProcess("worker", **environment))
            worker.wait_for("ready.")
            return worker

        yield Service(client, server, create_engine(url, poolclass=NullPool), start_worker)


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def in_state(service: Service, state: str) -> int:
    """How many of the mails are in this state."""
    return [mail["state"] for mail in service.mails()].count(state)


def test_a_mail_reaches_the_server_soon_after_the_request(service: Service) -> None:
    service.start_worker()
    service.queue_mail()
    wait_until(lambda: in_state(service, "sent") == 1, "no worker has sent it")
    [mail], [received] = service.mails(), service.server.mails
    assert received["Message-ID"] == f"<{mail['message_id']}>"
    assert received["To"] == "guest0@example.com"


def test_two_workers_send_each_mail_once(service: Service) -> None:
    count = 40
    for number in range(count):
        service.queue_mail(number)
    both_work = threading.Event()

    def accept_slowly() -> None:
        assert both_work.wait(SECONDS)
        time.sleep(0.02)

    service.server.before_accepting = accept_slowly
    service.start_worker()
    wait_until(lambda: in_state(service, "sending") == 1, "the first worker claims nothing")
    service.start_worker()
    wait_until(lambda: in_state(service, "sending") == 2, "the second worker claims nothing")
    both_work.set()
    wait_until(lambda: in_state(service, "sent") == count, "not all were sent")

    recipients = Counter(str(mail["To"]) for mail in service.server.mails)
    assert recipients == {f"guest{number}@example.com": 1 for number in range(count)}
    assert len(service.server.sessions) > 1, "one worker has sent them all"


def test_a_worker_killed_after_the_server_took_the_mail_has_it_sent_once_more(
    service: Service,
) -> None:
    """At least once: the second mail has the Message-ID of the first, for receivers to drop it."""
    worker = service.start_worker()
    with service.database.connect() as holder:
        # The row is locked from before the 250 on: the worker gets its answer, and then waits for
        # the row that it wants to note it in.
        def lock_rows() -> None:
            holder.execute(text("SELECT id FROM mail_message FOR UPDATE"))

        service.server.before_accepting = lock_rows
        service.queue_mail()
        wait_until(lambda: waits_for_row(service.database), "the worker does not wait")
        os.kill(worker.pid, signal.SIGKILL)
        assert worker.exit_status() == -signal.SIGKILL
        holder.rollback()
    service.server.before_accepting = lambda: None

    [mail] = service.mails()
    assert (mail["state"], mail["attempts"]) == ("sending", 1)

    # While the claim lasts, nobody takes the mail from a worker that may only be slow.
    second = service.start_worker()
    service.queue_mail(1)
    wait_until(lambda: len(service.server.mails) == 2, "the second mail was not sent")
    assert service.mails()[0]["state"] == "sending"

    with service.database.begin() as connection:  # the claim ends
        connection.execute(text("UPDATE mail_message SET due_at = now() WHERE state = 'sending'"))
    service.queue_mail(2)
    wait_until(lambda: in_state(service, "sent") == 3, "it was not sent again")
    second.wait_for("its worker was lost, maybe after sending it")
    assert service.mails()[0]["attempts"] == 2
    first_id = mail["message_id"]
    assert Counter(service.server.message_ids)[str(first_id)] == 2
    assert len(service.server.mails) == 4


def waits_for_row(database: Engine) -> bool:
    with database.connect() as connection:
        waiting: int | None = connection.scalar(
            text(
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
        )
    return waiting == 1
