import pytest
from sqlmodel import Session, select

from app.core.config import StartupError
from kit.commands import admin_password as command
from kit.models import AdminUser
from kit.security import verify_password

pytestmark = pytest.mark.usefixtures("sync_db_session")


def test_refuses_an_unusable_username() -> None:
    with pytest.raises(StartupError, match="no password was set: 'two words' is not a valid"):
        command.main(["set", "two words"])


@pytest.mark.parametrize("username", ["nobody", "two words"])
def test_cannot_revoke_who_is_not_there(username: str) -> None:
    with pytest.raises(StartupError, match=username):
        command.main(["revoke", username])


def test_makes_an_account_and_prints_its_password_once(
    sync_db_session: Session, capsys: pytest.CaptureFixture[str]
) -> None:
    command.main(["set", "Ada"])
    first, password = capsys.readouterr().out.splitlines()
    assert "'ada'" in first
    user = sync_db_session.exec(select(AdminUser)).one()
    assert verify_password(password, user.password_hash)


@pytest.mark.usefixtures("capsys")
def test_makes_an_account_that_only_reads(sync_db_session: Session) -> None:
    command.main(["set", "ada", "--role", "reader"])
    assert sync_db_session.exec(select(AdminUser)).one().role == "reader"
    with pytest.raises(StartupError, match="no role 'owner', expected one of reader, editor"):
        command.main(["set", "ada", "--role", "owner"])


def test_revokes(sync_db_session: Session, capsys: pytest.CaptureFixture[str]) -> None:
    command.main(["set", "ada"])
    command.main(["revoke", "ada"])
    assert "open sessions have ended" in capsys.readouterr().out
    assert not sync_db_session.exec(select(AdminUser)).one().is_active
    with pytest.raises(StartupError, match="no active administrator 'ada'"):
        command.main(["revoke", "ada"])
