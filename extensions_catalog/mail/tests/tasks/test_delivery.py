"""Sending what is due, to a real server."""

import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import create_engine, delete, func, text, update
from sqlalchemy.pool import NullPool
from sqlmodel import Session, col, select

from app.core.config import settings
from app.core.database import sync_engine
from app.extensions.mail.models import MailMessage, MailState, MailSuppression
from app.extensions.mail.settings import mail_settings
from app.extensions.mail.tasks import send_due_mail
from app.extensions.mail.tasks.delivery import mail_outbox
from app.extensions.mail.tests.mail_server import MailServer, point_at
from kit import outbox
from kit.messages import Message
from kit.outbox import Outcome
from kit.queue import collect_schedules
from kit.testing import change_settings, free_port


def add_mails(session: Session, count: int = 1, **values: object) -> list[MailMessage]:
    mails = [
        MailMessage(
            message_id=f"{number}@example.com",
            template="shop.order-shipped",
            to_address="ada@example.com",
            subject=f"Order {number}",
            text_body="Dear Ada\n",
        )
        for number in range(count)
    ]
    for mail in mails:
        for name, value in values.items():
            setattr(mail, name, value)
    session.add_all(mails)
    session.commit()
    return mails


@pytest.fixture
def mail(sync_db_session: Session) -> MailMessage:
    return add_mails(sync_db_session)[0]


def reload(session: Session, mail: MailMessage) -> MailMessage:
    session.expire_all()
    session.refresh(mail)
    return mail


def let_time_pass(session: Session) -> None:
    """Until every mail that waits or is claimed is due."""
    session.exec(update(MailMessage).values(due_at=func.now()))
    session.commit()


def seconds_until_due(mail: MailMessage) -> float:
    assert mail.due_at is not None
    return (mail.due_at - datetime.now(UTC)).total_seconds()


class TestRefusedMails:
    def test_4xx_is_tried_again_later_with_the_same_message_id(
        self, sync_db_session: Session, server: MailServer, mail: MailMessage
    ) -> None:
        server.answers_to_recipients.append("450 4.2.0 greylisted")

        assert send_due_mail() == 0

        reload(sync_db_session, mail)
        assert (mail.state, mail.attempts) == (MailState.QUEUED, 1)
        assert mail.error == "450 4.2.0 greylisted"
        assert 40 < seconds_until_due(mail) < 80
        assert send_due_mail() == 0
        let_time_pass(sync_db_session)
        assert send_due_mail() == 1
        reload(sync_db_session, mail)
        assert (mail.state, mail.attempts, mail.error) == (MailState.SENT, 2, "")
        assert server.message_ids == [mail.message_id]

    def test_a_recipient_that_is_refused_for_good_bounces(
        self,
        sync_db_session: Session,
        server: MailServer,
        mail: MailMessage,
        published: list[Message],
    ) -> None:
        server.answers_to_recipients.append("550 5.1.1 no such user")

        assert send_due_mail() == 0

        reload(sync_db_session, mail)
        assert (mail.state, mail.error) == (MailState.BOUNCED, "550 5.1.1 no such user")
        [message] = published
        assert message.name == "mail.bounced"
        assert message.payload == {
            "message_id": mail.message_id,
            "template": "shop.order-shipped",
            "address": "ada@example.com",
            "reason": "550 5.1.1 no such user",
        }
        let_time_pass(sync_db_session)
        assert send_due_mail() == 0
        assert server.mails == []

    def test_a_mail_that_is_refused_for_good_fails(
        self,
        sync_db_session: Session,
        server: MailServer,
        mail: MailMessage,
        published: list[Message],
    ) -> None:
        server.answers_to_data.append("554 5.6.0 looks like spam")
        send_due_mail()
        assert reload(sync_db_session, mail).state == MailState.FAILED
        assert [message.name for message in published] == ["mail.failed"]

    def test_the_last_attempt_ends_it(
        self,
        sync_db_session: Session,
        server: MailServer,
        mail: MailMessage,
        published: list[Message],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        change_settings(monkeypatch, mail_settings, MAX_ATTEMPTS=2)
        server.answers_to_recipients += ["450 4.2.0 first", "450 4.2.0 second"]
        send_due_mail()
        let_time_pass(sync_db_session)
        send_due_mail()
        reload(sync_db_session, mail)
        assert (mail.state, mail.error) == (MailState.FAILED, "450 4.2.0 second")
        assert [message.name for message in published] == ["mail.failed"]

    @pytest.mark.parametrize("address", ["ada@example.com", "Ada@Example.com"])
    def test_a_suppressed_address_gets_none(
        self, sync_db_session: Session, server: MailServer, address: str
    ) -> None:
        sync_db_session.add(MailSuppression(address="ada@example.com"))
        to_ada, to_bob = add_mails(sync_db_session, 2, to_address=address)
        to_bob.to_address = "bob@example.com"
        sync_db_session.commit()

        assert send_due_mail() == 1

        assert reload(sync_db_session, to_ada).state == MailState.SUPPRESSED
        assert reload(sync_db_session, to_bob).state == MailState.SENT
        assert server.message_ids == [to_bob.message_id]


class TestServerAway:
    def test_costs_one_mail_an_attempt_and_none_is_lost(
        self,
        sync_db_session: Session,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        mails = add_mails(sync_db_session, 3)
        point_at(monkeypatch, free_port())

        with caplog.at_level(logging.INFO):
            assert send_due_mail() == 0

        states = [reload(sync_db_session, mail) for mail in mails]
        assert [(mail.state, mail.attempts) for mail in states] == [
            (MailState.QUEUED, 1),
            (MailState.QUEUED, 0),
            (MailState.QUEUED, 0),
        ]
        assert "the SMTP server takes no mail: ConnectionRefusedError" in caplog.text
        with MailServer() as server:
            point_at(monkeypatch, server.port)
            let_time_pass(sync_db_session)
            assert send_due_mail() == 3
            assert sorted(server.message_ids) == [mail.message_id for mail in mails]

    def test_without_a_server_nothing_is_tried(
        self, sync_db_session: Session, mail: MailMessage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        point_at(monkeypatch, 25, SMTP_HOST=None)
        assert send_due_mail() == 0
        assert reload(sync_db_session, mail).state == MailState.QUEUED


class TestSentMails:
    def test_are_noted_and_not_sent_again(
        self,
        sync_db_session: Session,
        server: MailServer,
        mail: MailMessage,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        with caplog.at_level(logging.INFO, logger=outbox.__name__):
            assert send_due_mail() == 1
            let_time_pass(sync_db_session)
            assert send_due_mail() == 0
        reload(sync_db_session, mail)
        assert (mail.state, mail.attempts) == (MailState.SENT, 1)
        assert mail.sent_at is not None
        assert server.message_ids == [mail.message_id]
        lines = [each.message for each in caplog.records if each.name == outbox.__name__]
        assert lines == [f"mail {mail.message_id}: sent after attempt 1"]

    def test_a_long_queue_leaves_other_tasks_their_turn(
        self,
        sync_db_session: Session,
        server: MailServer,
        sent_tasks: list[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        add_mails(sync_db_session, 3)
        monkeypatch.setattr(outbox, "RUN_SECONDS", -1)
        assert send_due_mail() == 1
        assert sent_tasks == [send_due_mail.name]

    def test_beat_makes_up_for_what_was_missed(self) -> None:
        entry = collect_schedules()["mail.send-due"]
        assert (entry["task"], entry["schedule"]) == (send_due_mail.name, 60)


class TestClaims:
    """What is known of a mail while a worker has it, and after that worker was lost."""

    def test_a_claimed_mail_is_nobody_else_s_while_the_claim_lasts(
        self, sync_db_session: Session, mail: MailMessage
    ) -> None:
        claimed = mail_outbox().claim()
        assert claimed is not None
        assert (claimed.state, claimed.attempts) == (MailState.SENDING, 1)
        assert seconds_until_due(claimed) > mail_settings.SEND_TIMEOUT
        assert mail_outbox().claim() is None

    def test_a_claim_that_has_ended_is_taken_over(
        self,
        sync_db_session: Session,
        server: MailServer,
        mail: MailMessage,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        assert mail_outbox().claim() is not None
        let_time_pass(sync_db_session)
        assert send_due_mail() == 1
        assert "its worker was lost, maybe after sending it" in caplog.text
        reload(sync_db_session, mail)
        assert (mail.state, mail.attempts) == (MailState.SENT, 2)
        assert server.message_ids == [mail.message_id]

    def test_who_comes_late_changes_nothing(
        self, sync_db_session: Session, mail: MailMessage
    ) -> None:
        late = mail_outbox().claim()
        let_time_pass(sync_db_session)
        assert mail_outbox().claim() is not None
        assert late is not None
        mail_outbox().record(late, Outcome(MailState.FAILED, "late"))
        reload(sync_db_session, mail)
        assert (mail.state, mail.attempts, mail.error) == (MailState.SENDING, 2, "")

    def test_a_mail_that_costs_each_worker_its_life_ends_too(
        self,
        sync_db_session: Session,
        mail: MailMessage,
        published: list[Message],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        change_settings(monkeypatch, mail_settings, MAX_ATTEMPTS=2)
        for _ in range(2):
            assert mail_outbox().claim() is not None
            let_time_pass(sync_db_session)
        assert mail_outbox().claim() is None
        reload(sync_db_session, mail)
        assert (mail.state, mail.attempts) == (MailState.FAILED, 2)
        assert [message.name for message in published] == ["mail.failed"]

    def test_a_bounce_that_is_told_first_is_not_undone(
        self, sync_db_session: Session, mail: MailMessage
    ) -> None:
        claimed = mail_outbox().claim()
        reload(sync_db_session, mail).state = MailState.BOUNCED
        sync_db_session.commit()
        assert claimed is not None
        mail_outbox().record(claimed, Outcome(MailState.SENT))
        assert reload(sync_db_session, mail).state == MailState.BOUNCED


class TestWithConnectionsOfTheirOwn:
    """What needs rows that are committed for good; they are deleted at the end."""

    @pytest.fixture
    def session(self, test_database: str) -> Iterator[Session]:
        engine = create_engine(
            settings.SYNC_DATABASE_URL, poolclass=NullPool, connect_args=settings.sync_connect_args
        )
        with Session(engine, expire_on_commit=False) as session:
            yield session
            session.rollback()
            session.exec(delete(MailMessage))
            session.commit()

    @pytest.fixture
    def impatient_pool(self) -> Iterator[None]:
        """Waiting for a lock is an error at once, on the pool's one connection."""
        with sync_engine.begin() as connection:
            connection.execute(text("SET lock_timeout = '1s'"))
        yield
        with sync_engine.begin() as connection:
            connection.execute(text("RESET lock_timeout"))

    @pytest.mark.usefixtures("impatient_pool")
    def test_a_worker_passes_over_what_another_is_claiming(self, session: Session) -> None:
        first, second = add_mails(session, 2)
        session.exec(
            select(MailMessage).where(col(MailMessage.id) == first.id).with_for_update()
        ).one()

        claimed = mail_outbox().claim()

        assert claimed is not None
        assert claimed.id == second.id
        assert mail_outbox().claim() is None

    def test_no_connection_to_the_database_is_held_while_the_server_is_spoken_to(
        self, session: Session, server: MailServer
    ) -> None:
        add_mails(session)
        held: list[int] = []
        server.before_accepting = lambda: held.append(sync_engine.pool.checkedout())  # type: ignore[attr-defined]
        assert send_due_mail() == 1
        assert held == [0]

    def test_a_sent_mail_is_noted_although_the_database_went_away_meanwhile(
        self, session: Session, server: MailServer
    ) -> None:
        [mail] = add_mails(session)
        with sync_engine.connect() as connection:  # the pool's one connection
            backend = connection.scalar(text("SELECT pg_backend_pid()"))

        def end_connection() -> None:
            session.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": backend})
            session.commit()

        server.before_accepting = end_connection
        assert send_due_mail() == 1
        session.refresh(mail)
        assert mail.state == MailState.SENT
        assert server.message_ids == [mail.message_id]


@pytest.mark.parametrize(
    ("attempts", "least", "most"),
    [(1, 48, 72), (2, 192, 288), (4, 3072, 4608), (5, 11_520, 17_280), (50, 11_520, 17_280)],
)
def test_pauses_grow_up_to_four_hours(attempts: int, least: float, most: float) -> None:
    pauses = [mail_outbox().pause_after(attempts) for _ in range(100)]
    assert least <= min(pauses) < max(pauses) <= most


def test_eight_attempts_take_half_a_day() -> None:
    total = sum(min(60 * 4**n, 4 * 3600) for n in range(7))
    assert timedelta(hours=12) < timedelta(seconds=total) < timedelta(hours=15)
