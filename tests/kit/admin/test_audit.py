from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Column, ForeignKey, MetaData, Table
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship
from sqlmodel import Session, col, delete, select, update

from kit.admin._audit import (
    AdminRequest,
    AuditedSession,
    ChangeRefusedError,
    admin_session_maker,
    is_sensitive,
)
from kit.models import AdminUser, ApiToken, AuditEntry
from kit.queue import delete_old_audit
from kit.settings import settings
from kit.testing import change_settings


def entries(session: Session) -> list[AuditEntry]:
    return list(session.exec(select(AuditEntry).order_by(col(AuditEntry.id))))


@pytest.fixture
def session(sync_db_session: Session) -> Iterator[AuditedSession]:
    with admin_session_maker() as session:
        yield session


def make_token(session: Session, **values: Any) -> ApiToken:
    token = ApiToken(name="job", hint="api_1234", token_hash="f" * 64, **values)
    session.add(token)
    session.commit()
    return token


class TestWithoutAdministrator:
    def test_nothing_is_recorded(self, session: AuditedSession) -> None:
        make_token(session)
        assert entries(session) == []

    def test_nor_before_it_is_known_who(
        self, session: AuditedSession, as_tester: AdminRequest
    ) -> None:
        as_tester.actor = ""
        make_token(session)
        assert entries(session) == []


@pytest.mark.usefixtures("as_tester")
class TestRecords:
    def test_a_creation(self, session: AuditedSession) -> None:
        expires_at = datetime(2999, 1, 1, tzinfo=UTC)
        token = make_token(session, expires_at=expires_at)
        (entry,) = entries(session)
        assert (entry.action, entry.actor, entry.client) == ("create", "tester", "203.0.113.9")
        assert (entry.subject_type, entry.subject_id) == ("api_token", str(token.id))
        assert entry.details["name"] == {"new": "job"}
        assert entry.details["expires_at"] == {"new": "2999-01-01T00:00:00+00:00"}
        assert "revoked_at" not in entry.details

    def test_a_change_with_what_was_before(self, session: AuditedSession) -> None:
        token = make_token(session)
        token.name = "another job"
        session.commit()
        assert entries(session)[-1].action == "update"
        assert entries(session)[-1].details == {"name": {"old": "job", "new": "another job"}}

    def test_no_change_where_nothing_changed(self, session: AuditedSession) -> None:
        token = make_token(session)
        token.name = "job"
        session.commit()
        assert [entry.action for entry in entries(session)] == ["create"]

    def test_a_deletion_with_what_there_was(self, session: AuditedSession) -> None:
        token = make_token(session)
        session.delete(token)
        session.commit()
        entry = entries(session)[-1]
        assert (entry.action, entry.subject_id) == ("delete", str(token.id))
        assert entry.details["name"] == {"old": "job"}

    def test_that_a_secret_changed_but_not_what_it_is(self, session: AuditedSession) -> None:
        token = make_token(session)
        token.token_hash = "e" * 64
        session.commit()
        session.delete(token)
        session.commit()
        created, changed, deleted = entries(session)
        assert created.details["token_hash"] == {"new": "(hidden)"}
        assert changed.details == {"token_hash": {"old": "(hidden)", "new": "(hidden)"}}
        assert deleted.details["token_hash"] == {"old": "(hidden)"}

    @pytest.mark.parametrize(
        "statement",
        [update(ApiToken).values(name="changed"), delete(ApiToken).where(col(ApiToken.id) > 0)],
    )
    def test_statements_without_their_values(self, session: AuditedSession, statement: Any) -> None:
        make_token(session)
        session.exec(statement)
        session.commit()
        entry = entries(session)[-1]
        assert entry.action == ("update" if statement.is_update else "delete")
        assert entry.subject_type == "api_token"
        assert "api_token" in entry.details["statement"]
        assert "changed" not in entry.details["statement"]

    def test_long_values_cut(self, session: AuditedSession) -> None:
        session.add(AuditedDocument(text="x" * 10_000, content=b"12345"))
        session.commit()
        details = entries(session)[-1].details
        assert len(details["text"]["new"]) == 501
        assert details["content"] == {"new": "(5 bytes)"}

    def test_links_to_other_rows(self, session: AuditedSession) -> None:
        first, second = AuditedLabel(name="first"), AuditedLabel(name="second")
        document = AuditedDocument(text="text", labels=[first])
        session.add_all([document, second])
        session.commit()
        document.labels = [second]
        session.commit()
        assert entries(session)[-1].details == {
            "labels": {"added": [str(second.id)], "removed": [str(first.id)]}
        }


@pytest.mark.usefixtures("as_tester")
class TestSameTransaction:
    def test_what_is_undone_leaves_no_entry(self, session: AuditedSession) -> None:
        session.add(ApiToken(name="job", hint="h", token_hash="f"))
        session.flush()
        assert len(entries(session)) == 1
        session.rollback()
        assert entries(session) == []

    def test_what_cannot_be_recorded_is_not_done(
        self, session: AuditedSession, as_tester: AdminRequest
    ) -> None:
        as_tester.actor = "x" * 65  # longer than the column
        with pytest.raises(Exception, match="value too long"):
            make_token(session)
        session.rollback()
        assert session.exec(select(ApiToken)).all() == []


class TestRefusedChange:
    def test_tells_no_values(self, session: AuditedSession) -> None:
        make_token(session)
        with pytest.raises(ChangeRefusedError) as caught:
            make_token(session)
        assert str(caught.value) == (
            "The database refused the change: duplicate key value violates unique constraint "
            '"uq_api_token_name"'
        )
        assert caught.value.__suppress_context__
        assert isinstance(caught.value.__context__, IntegrityError)

    def test_other_errors_hide_their_parameters(self, session: AuditedSession) -> None:
        session.add(AdminUser(username="x" * 65, password_hash="$argon2id$secret"))
        with pytest.raises(Exception, match="value too long") as caught:
            session.flush()
        assert "$argon2id$secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "sensitive"),
    [
        ("password", True),
        ("password_hash", True),
        ("api_key", True),
        ("refresh_token", True),
        ("client_secret_2", True),
        ("tokens_used", False),
        ("secretary", False),
        ("name", False),
    ],
)
def test_names_that_tell(name: str, *, sensitive: bool) -> None:
    assert is_sensitive(name, {}) is sensitive


def test_marked_columns_are_sensitive() -> None:
    assert is_sensitive("recovery_words", {"sensitive": True})


# Tables of these tests alone: they are made, and undone, inside the test's transaction.

_metadata = MetaData()
_links = Table(
    "audited_document_label",
    _metadata,
    Column("document_id", ForeignKey("audited_document.id"), primary_key=True),
    Column("label_id", ForeignKey("audited_label.id"), primary_key=True),
)


class _Base(DeclarativeBase):
    metadata = _metadata


class AuditedLabel(_Base):
    __tablename__ = "audited_label"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class AuditedDocument(_Base):
    __tablename__ = "audited_document"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]
    content: Mapped[bytes | None]
    labels: Mapped[list[AuditedLabel]] = relationship(secondary=_links)


@pytest.fixture(autouse=True)
def _tables(session: AuditedSession) -> None:
    _metadata.create_all(session.connection())
    session.commit()


class TestRetention:
    @pytest.mark.parametrize(
        ("keep_days", "window_days", "kept"),
        [(None, 0, [0, 1, 9, 99]), (30, 0, [0, 1, 9]), (1, 0, [0]), (1, 5, [0, 1])],
    )
    def test_entries_are_kept_for_the_days_of_the_setting(
        self,
        sync_db_session: Session,
        monkeypatch: pytest.MonkeyPatch,
        keep_days: int | None,
        window_days: int,
        kept: list[int],
    ) -> None:
        window = max(900, window_days * 86400)  # within which failed log-ins are counted
        change_settings(monkeypatch, settings, AUDIT_KEEP_DAYS=keep_days, ADMIN_LOGIN_WINDOW=window)
        now = datetime.now(UTC)
        for days in (99, 9, 1, 0):
            moment = now - timedelta(days=days, minutes=1)
            sync_db_session.add(AuditEntry(action="create", actor=str(days), occurred_at=moment))
        sync_db_session.commit()
        assert delete_old_audit() == 4 - len(kept)
        assert sorted(int(entry.actor) for entry in entries(sync_db_session)) == kept
