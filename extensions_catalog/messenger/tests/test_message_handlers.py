"""What the extension does when something has happened."""

import pytest
from sqlalchemy import func, text, update
from sqlmodel import Session, col, select

from app.extensions.messenger.models import Direction, MessageState, MessengerMessage
from app.extensions.messenger.settings import messenger_settings
from app.extensions.messenger.tasks import send_due_replies
from kit.messages import publish_sync
from kit.testing import change_settings


def replies(session: Session) -> list[MessengerMessage]:
    statement = select(MessengerMessage).where(col(MessengerMessage.direction) == Direction.OUT)
    return list(session.exec(statement.order_by(col(MessengerMessage.id))))


def receive(session: Session, psid: str = "11") -> None:
    """A message has come in."""
    publish_sync(session, "messenger.message-received", {"sender_id": psid, "text": "hello"})
    session.commit()


class TestRequestedReplies:
    @pytest.mark.parametrize(
        "payload", [{"text": "Yes!"}, {"recipient_id": "11"}, {"recipient_id": "ada", "text": "x"}]
    )
    def test_to_nobody_do_not_fail_their_sender(
        self, sync_db_session: Session, sent_tasks: list[str], payload: dict[str, str]
    ) -> None:
        publish_sync(sync_db_session, "messenger.reply-requested", payload)
        sync_db_session.commit()
        assert replies(sync_db_session) == []
        assert sent_tasks == []

    @pytest.mark.parametrize("length", [0, 2001])
    def test_that_the_platform_would_not_take_say_why(
        self, sync_db_session: Session, sent_tasks: list[str], length: int
    ) -> None:
        payload = {"recipient_id": "11", "text": "x" * length}
        publish_sync(sync_db_session, "messenger.reply-requested", payload)
        sync_db_session.commit()
        [reply] = replies(sync_db_session)
        assert reply.state == MessageState.FAILED
        assert reply.error == f"the text has {length} characters, expected 1 to 2000"
        assert sent_tasks == []

    @pytest.mark.parametrize("length", [1, 2000])
    def test_of_the_shortest_and_the_longest_text_are_queued(
        self, sync_db_session: Session, sent_tasks: list[str], length: int
    ) -> None:
        payload = {"recipient_id": "11", "text": "x" * length}
        publish_sync(sync_db_session, "messenger.reply-requested", payload)
        sync_db_session.commit()
        [reply] = replies(sync_db_session)
        assert reply.error == ""
        assert reply.state in (MessageState.QUEUED, MessageState.KEPT)

    def test_are_undone_with_their_sender(
        self, sync_db_session: Session, sent_tasks: list[str]
    ) -> None:
        payload = {"recipient_id": "11", "text": "Yes!"}
        publish_sync(sync_db_session, "messenger.reply-requested", payload)
        assert len(replies(sync_db_session)) == 1
        sync_db_session.rollback()
        assert replies(sync_db_session) == []
        assert sent_tasks == []

    def test_are_sent_after_commit(self, sync_db_session: Session, sent_tasks: list[str]) -> None:
        payload = {"recipient_id": "11", "text": "Yes!"}
        publish_sync(sync_db_session, "messenger.reply-requested", payload)
        assert sent_tasks == []
        sync_db_session.commit()
        assert sent_tasks == [send_due_replies.name]
        [reply] = replies(sync_db_session)
        assert (reply.psid, reply.text, reply.state) == ("11", "Yes!", MessageState.QUEUED)


@pytest.mark.usefixtures("sent_tasks")
class TestAutomaticReply:
    def test_is_not_sent_unless_there_is_one(self, sync_db_session: Session) -> None:
        receive(sync_db_session)
        assert replies(sync_db_session) == []

    def test_is_sent_to_each_person_once_a_day(
        self, sync_db_session: Session, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        change_settings(monkeypatch, messenger_settings, AUTO_REPLY="We will be with you soon.")
        for psid in ("11", "11", "22"):
            receive(sync_db_session, psid)
        assert [reply.psid for reply in replies(sync_db_session)] == ["11", "22"]

        yesterday = func.now() - text("interval '25 hours'")
        sync_db_session.exec(update(MessengerMessage).values(created_at=yesterday))
        receive(sync_db_session)
        assert [reply.psid for reply in replies(sync_db_session)] == ["11", "22", "11"]
