"""Sending what is due, to a real server."""

import json
from datetime import UTC, datetime

import pytest
from sqlalchemy import func, update
from sqlmodel import Session

from app.extensions.messenger.models import Direction, MessageState, MessengerMessage
from app.extensions.messenger.settings import messenger_settings
from app.extensions.messenger.tasks import send_due_replies
from app.extensions.messenger.tasks.delivery import reply_outbox
from app.extensions.messenger.tests.conftest import PAGE_TOKEN
from app.extensions.messenger.tests.platform_server import (
    Answer,
    PlatformServer,
    answer,
    drip,
    error,
    hang_up,
    silence,
)
from kit import outbox
from kit.messages import Message
from kit.outbox import Outcome
from kit.queue import collect_schedules
from kit.testing import change_settings, free_port


def add_reply(session: Session, text: str = "Yes!") -> MessengerMessage:
    reply = MessengerMessage(
        direction=Direction.OUT, psid="11", text=text, state=MessageState.QUEUED
    )
    session.add(reply)
    session.commit()
    return reply


@pytest.fixture
def reply(sync_db_session: Session) -> MessengerMessage:
    return add_reply(sync_db_session)


def reload(session: Session, reply: MessengerMessage) -> MessengerMessage:
    session.expire_all()
    session.refresh(reply)
    return reply


def let_time_pass(session: Session) -> None:
    """Until every reply that waits or is claimed is due."""
    session.exec(update(MessengerMessage).values(due_at=func.now()))
    session.commit()


def seconds_until_due(reply: MessengerMessage) -> float:
    assert reply.due_at is not None
    return (reply.due_at - datetime.now(UTC)).total_seconds()


class TestRefusedReplies:
    @pytest.mark.parametrize(
        "refusal",
        [
            (
                error(400, 10, "sent outside of allowed window", error_subcode=2018278),
                "400 10/2018278 sent outside of allowed window",
            ),
            (error(401, 190, "Invalid OAuth access token."), "401 190 Invalid OAuth access token."),
            (answer(404, b"<html>"), "404"),
            (answer(302, b""), "302"),
        ],
    )
    def test_are_given_up_with_the_platforms_words(
        self,
        sync_db_session: Session,
        platform: PlatformServer,
        reply: MessengerMessage,
        published: list[Message],
        refusal: tuple[Answer, str],
    ) -> None:
        refused, reason = refusal
        platform.answers = [refused]

        assert send_due_replies() == 0

        reload(sync_db_session, reply)
        assert (reply.state, reply.attempts, reply.error) == (MessageState.FAILED, 1, reason)
        [told] = published
        assert told.name == "messenger.failed"
        assert told.payload == {
            "message_id": reply.id,
            "mid": None,
            "recipient_id": "11",
            "reason": reason,
        }
        let_time_pass(sync_db_session)
        assert send_due_replies() == 0
        assert len(platform.forms) == 1


class TestTriedAgain:
    @pytest.mark.parametrize(
        ("trouble", "reason"),
        [
            (answer(500, b""), "500"),
            (answer(503, b"[1]"), "503"),
            (answer(429, b""), "429"),
            (error(400, 613, "Calls to this api have exceeded the rate limit."), "400 613 Calls"),
            (error(400, 999, "Please retry", is_transient=True), "400 999 Please retry"),
            (hang_up, "the platform is not reached: RemoteProtocolError"),
        ],
    )
    def test_after_a_while(
        self,
        sync_db_session: Session,
        platform: PlatformServer,
        reply: MessengerMessage,
        trouble: Answer,
        reason: str,
    ) -> None:
        platform.answers = [trouble]

        assert send_due_replies() == 0

        reload(sync_db_session, reply)
        assert (reply.state, reply.attempts) == (MessageState.QUEUED, 1)
        assert reply.error.startswith(reason)
        assert 10 < seconds_until_due(reply) < 20
        assert send_due_replies() == 0
        let_time_pass(sync_db_session)
        assert send_due_replies() == 1
        reload(sync_db_session, reply)
        assert (reply.state, reply.attempts, reply.error) == (MessageState.SENT, 2, "")

    @pytest.mark.parametrize("slow", [silence, drip])
    def test_when_the_answer_takes_too_long(
        self,
        sync_db_session: Session,
        platform: PlatformServer,
        reply: MessengerMessage,
        monkeypatch: pytest.MonkeyPatch,
        slow: object,
    ) -> None:
        change_settings(monkeypatch, messenger_settings, SEND_TIMEOUT=0.3)
        platform.answers = [slow(platform)]  # type: ignore[operator]
        send_due_replies()
        reload(sync_db_session, reply)
        assert (reply.state, reply.error) == (
            MessageState.QUEUED,
            "no answer within 0.3 seconds",
        )

    def test_when_nobody_listens(
        self,
        sync_db_session: Session,
        reply: MessengerMessage,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        url = f"http://127.0.0.1:{free_port()}"
        change_settings(monkeypatch, messenger_settings, GRAPH_URL=url)
        send_due_replies()
        reload(sync_db_session, reply)
        assert reply.state == MessageState.QUEUED
        assert "ConnectError" in reply.error
        assert PAGE_TOKEN not in reply.error

    def test_until_the_attempts_are_used_up(
        self,
        sync_db_session: Session,
        platform: PlatformServer,
        reply: MessengerMessage,
        monkeypatch: pytest.MonkeyPatch,
        published: list[Message],
    ) -> None:
        change_settings(monkeypatch, messenger_settings, MAX_ATTEMPTS=2)
        platform.answers = [answer(500, b""), answer(500, b"")]
        send_due_replies()
        assert published == []
        let_time_pass(sync_db_session)
        send_due_replies()
        assert reload(sync_db_session, reply).state == MessageState.FAILED
        assert [message.name for message in published] == ["messenger.failed"]

    def test_pauses_grow_up_to_an_hour(self) -> None:
        assert 12 <= reply_outbox().pause_after(1) <= 18
        assert 48 <= reply_outbox().pause_after(2) <= 72
        assert 2880 <= reply_outbox().pause_after(20) <= 4320


class TestLostWorkers:
    def test_reply_is_sent_again_once_the_claim_has_ended(
        self, sync_db_session: Session, platform: PlatformServer, reply: MessengerMessage
    ) -> None:
        assert reply_outbox().claim() is not None
        assert send_due_replies() == 0
        let_time_pass(sync_db_session)
        assert send_due_replies() == 1
        assert reload(sync_db_session, reply).attempts == 2

    def test_last_attempt_is_not_made_once_more(
        self,
        sync_db_session: Session,
        platform: PlatformServer,
        reply: MessengerMessage,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        change_settings(monkeypatch, messenger_settings, MAX_ATTEMPTS=1)
        reply_outbox().claim()
        let_time_pass(sync_db_session)
        assert send_due_replies() == 0
        reload(sync_db_session, reply)
        assert (reply.state, reply.error) == (
            MessageState.FAILED,
            "the worker of the last attempt was lost",
        )

    def test_worker_that_comes_late_changes_nothing(
        self, sync_db_session: Session, platform: PlatformServer, reply: MessengerMessage
    ) -> None:
        late = reply_outbox().claim()
        assert late is not None
        let_time_pass(sync_db_session)
        send_due_replies()
        reply_outbox().record(late, Outcome(MessageState.FAILED, "late"))
        assert reload(sync_db_session, reply).state == MessageState.SENT


class TestSentReplies:
    def test_are_what_the_send_api_asks_for(
        self,
        sync_db_session: Session,
        platform: PlatformServer,
        published: list[Message],
    ) -> None:
        reply = add_reply(sync_db_session, "äöå & 👋")

        assert send_due_replies() == 1

        assert platform.paths == ["/v25.0/me/messages"]
        [form] = platform.forms
        assert json.loads(form.pop("recipient")) == {"id": "11"}
        assert json.loads(form.pop("message")) == {"text": "äöå & 👋"}
        assert form == {"messaging_type": "RESPONSE", "access_token": PAGE_TOKEN}
        reload(sync_db_session, reply)
        assert (reply.state, reply.mid, reply.error) == (MessageState.SENT, "m_1", "")
        assert reply.sent_at is not None
        assert [message.name for message in published] == ["messenger.sent"]

    def test_are_sent_in_their_order(
        self, sync_db_session: Session, platform: PlatformServer
    ) -> None:
        for number in range(5):
            add_reply(sync_db_session, str(number))
        assert send_due_replies() == 5
        assert platform.texts == list("01234")

    def test_need_no_readable_answer(
        self, sync_db_session: Session, platform: PlatformServer, reply: MessengerMessage
    ) -> None:
        """Once more would be worse than without the id."""
        platform.answers = [answer(200, b"OK")]
        assert send_due_replies() == 1
        reload(sync_db_session, reply)
        assert (reply.state, reply.mid) == (MessageState.SENT, None)

    def test_a_run_leaves_the_rest_to_another_one(
        self,
        sync_db_session: Session,
        platform: PlatformServer,
        sent_tasks: list[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(outbox, "RUN_SECONDS", -1)
        for number in range(2):
            add_reply(sync_db_session, str(number))
        assert send_due_replies() == 1
        assert sent_tasks == [send_due_replies.name]


def test_what_was_missed_is_looked_for() -> None:
    assert collect_schedules()["messenger.send-due"]["task"] == send_due_replies.name
