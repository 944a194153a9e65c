from datetime import UTC, datetime, timedelta

import pytest
from sqlmodel import Session, select

from app.core.config import StartupError
from kit.commands import token as command
from kit.models import ApiToken
from kit.security._credentials import hash_token

pytestmark = pytest.mark.usefixtures("sync_db_session")


class TestCreate:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["create", " "], "no token was made: a token's name has 1 to 100 characters"),
            (["create", "job", "--expires", "soon"], "'soon' is not an expiry, expected for"),
            (["create", "job", "--expires", "2001-01-01"], "is in the past"),
            (
                ["create", "job", "--scopes", "hotel:raed"],
                "no route has the scope hotel:raed; there",
            ),
        ],
    )
    def test_tells_what_is_wrong(self, arguments: list[str], message: str) -> None:
        with pytest.raises(StartupError) as caught:
            command.main(arguments)
        assert message in caught.value.message

    def test_refuses_a_name_in_use(self) -> None:
        command.main(["create", "job"])
        with pytest.raises(StartupError, match="'job' is in use; revoke it"):
            command.main(["create", "job"])

    @pytest.mark.parametrize(
        ("arguments", "scopes"),
        [
            ([], ["default", "tasks"]),
            (["--scopes", ""], ["default", "tasks"]),
            (["--scopes", "tasks, default"], ["default", "tasks"]),
            (["--scopes", "*"], ["*"]),
        ],
    )
    def test_gives_the_scopes(
        self,
        sync_db_session: Session,
        capsys: pytest.CaptureFixture[str],
        arguments: list[str],
        scopes: list[str],
    ) -> None:
        command.main(["create", "job", *arguments])
        assert sync_db_session.exec(select(ApiToken)).one().scopes == scopes
        said = capsys.readouterr().out
        assert all(scope in said for scope in scopes)
        assert ("routes that name no scope" in said) == (not any(arguments[1:]))
        command.main(["list"])
        assert ", ".join(scopes) in capsys.readouterr().out

    def test_prints_the_token_once(
        self, sync_db_session: Session, capsys: pytest.CaptureFixture[str]
    ) -> None:
        command.main(["create", "job", "--expires", "90d"])
        first, token = capsys.readouterr().out.splitlines()
        assert "will not be shown again" in first
        row = sync_db_session.exec(select(ApiToken)).one()
        assert row.token_hash == hash_token(token)
        command.main(["list"])
        listed = capsys.readouterr().out
        assert token not in listed
        assert token[:12] in listed
        assert "unused" in listed


class TestRevoke:
    def test_tells_when_there_is_none(self) -> None:
        with pytest.raises(StartupError, match="no token 'job' in use"):
            command.main(["revoke", "job"])

    def test_revokes(self, sync_db_session: Session, capsys: pytest.CaptureFixture[str]) -> None:
        command.main(["create", "job"])
        command.main(["revoke", "job"])
        assert "'job' is revoked" in capsys.readouterr().out
        assert sync_db_session.exec(select(ApiToken)).one().revoked_at
        command.main(["list"])
        assert "revoked" in capsys.readouterr().out


def test_list_says_that_there_are_none(capsys: pytest.CaptureFixture[str]) -> None:
    command.main(["list"])
    assert "There are no tokens" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "length"),
    [("12h", timedelta(hours=12)), ("90d", timedelta(days=90)), ("2w", timedelta(weeks=2))],
)
def test_durations(text: str, length: timedelta) -> None:
    difference = command.parse_expiry(text) - datetime.now(UTC)
    assert abs(difference - length) < timedelta(seconds=5)


def test_dates() -> None:
    assert command.parse_expiry("2027-01-31") == datetime(2027, 1, 31, tzinfo=UTC)
    assert command.parse_expiry("2027-01-31T12:00+02:00") == datetime(2027, 1, 31, 10, tzinfo=UTC)
