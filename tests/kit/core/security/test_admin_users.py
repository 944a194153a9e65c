import pytest
from sqlmodel import Session, select

from kit.models import AdminUser, AuditAction, AuditEntry
from kit.security import (
    disable_admin,
    ensure_admin,
    normalise_username,
    set_admin_password,
    verify_password,
)


def stored(session: Session, username: str = "ada") -> AdminUser:
    return session.exec(select(AdminUser).where(AdminUser.username == username)).one()


@pytest.mark.parametrize("username", ["", " ", "x" * 65, "two words", "ädä", "<b>", "-dash"])
def test_unusable_usernames_are_refused(sync_db_session: Session, username: str) -> None:
    with pytest.raises(ValueError, match="is not a valid username: expected"):
        set_admin_password(sync_db_session, username, "password")


def test_usernames_ignore_case_and_space() -> None:
    assert normalise_username(" Ada.Lovelace@Example.com ") == "ada.lovelace@example.com"


class TestSetAdminPassword:
    def test_makes_the_account(self, sync_db_session: Session) -> None:
        set_admin_password(sync_db_session, "Ada", "first")
        assert verify_password("first", stored(sync_db_session).password_hash)

    def test_ends_sessions_and_enables_again(self, sync_db_session: Session) -> None:
        user = set_admin_password(sync_db_session, "ada", "first")
        version = user.session_version
        disable_admin(sync_db_session, "ada")
        set_admin_password(sync_db_session, "ada", "second")
        user = stored(sync_db_session)
        assert user.session_version > version
        assert user.is_active
        assert not verify_password("first", user.password_hash)
        assert verify_password("second", user.password_hash)

    def test_is_recorded_without_the_password(self, sync_db_session: Session) -> None:
        user = set_admin_password(sync_db_session, "ada", "first")
        sync_db_session.flush()
        entry = sync_db_session.exec(select(AuditEntry)).one()
        assert entry.action == AuditAction.PASSWORD
        assert (entry.client, entry.subject_id) == ("command line", str(user.id))
        assert entry.details == {}


class TestEnsureAdmin:
    def test_leaves_a_right_password_alone(self, sync_db_session: Session) -> None:
        ensure_admin(sync_db_session, "ada", "password")
        before = stored(sync_db_session).model_dump()
        ensure_admin(sync_db_session, "ada", "password")
        assert stored(sync_db_session).model_dump() == before

    def test_sets_a_wrong_one_right(self, sync_db_session: Session) -> None:
        ensure_admin(sync_db_session, "ada", "password")
        ensure_admin(sync_db_session, "ada", "another")
        assert verify_password("another", stored(sync_db_session).password_hash)


class TestDisableAdmin:
    def test_tells_when_there_is_none(self, sync_db_session: Session) -> None:
        assert not disable_admin(sync_db_session, "nobody")

    def test_ends_sessions(self, sync_db_session: Session) -> None:
        version = set_admin_password(sync_db_session, "ada", "password").session_version
        assert disable_admin(sync_db_session, "ADA")
        user = stored(sync_db_session)
        assert not user.is_active
        assert user.session_version == version + 1
