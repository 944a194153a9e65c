"""The configured project, and the addresses that are allowed for its keys."""

import os
import subprocess
import sys
from typing import Any

import pytest
from pydantic import ValidationError

from app.core.config import BASE_DIR
from app.extensions.accounts.settings import AccountsSettings
from kit.settings import StartupError
from kit.testing import change_settings

PROJECT = "abcdefghijklmnopqrst"
POOLER = "aws-0-eu-central-1.pooler.supabase.com"


def configured(**values: Any) -> AccountsSettings:
    """Make settings of these values only, independent of the environment."""
    return AccountsSettings(**{"SUPABASE_URL": None, "JWKS_URL": None, **values})


@pytest.fixture(autouse=True)
def _plain_database(monkeypatch: pytest.MonkeyPatch) -> None:
    change_settings(monkeypatch, POSTGRES_USER="postgres", POSTGRES_HOST="127.0.0.1")


class TestAddress:
    @pytest.mark.parametrize("name", ["SUPABASE_URL", "JWKS_URL"])
    @pytest.mark.parametrize(
        "address",
        [
            "http://abc.supabase.co",
            "http://10.0.0.1",
            "http://localhost.example.com",
            "http://localhost@example.com",
            "ftp://abc.supabase.co",
            "file:///etc/keys.json",
            "abc.supabase.co",
            "https://",
        ],
    )
    def test_plain_http_is_for_this_machine(self, name: str, address: str) -> None:
        with pytest.raises(ValidationError, match=r"expected an https:// address"):
            configured(**{name: address})

    @pytest.mark.parametrize(
        "address", ["https://me:secret@abc.supabase.co", "https://a.co?x=1", "https://a.co/#x"]
    )
    def test_it_holds_nothing_else(self, address: str) -> None:
        with pytest.raises(ValidationError, match="has more than a host and a path"):
            configured(SUPABASE_URL=address)

    @pytest.mark.parametrize(
        "address",
        [
            "https://abc.supabase.co",
            "http://127.0.0.1:54321",
            "http://localhost:54321",
            "http://[::1]:1",
        ],
    )
    def test_issuer_and_keys_follow_from_it(self, address: str) -> None:
        settings = configured(SUPABASE_URL=f"{address}/")
        assert settings.issuer == f"{address}/auth/v1"
        assert settings.jwks_url == f"{address}/auth/v1/.well-known/jwks.json"

    def test_keys_may_be_elsewhere(self) -> None:
        settings = configured(
            SUPABASE_URL="https://abc.supabase.co", JWKS_URL="https://keys.example.com/jwks"
        )
        assert settings.issuer == "https://abc.supabase.co/auth/v1"
        assert settings.jwks_url == "https://keys.example.com/jwks"


class TestProjectOfTheDatabase:
    @pytest.mark.parametrize(
        ("user", "host"),
        [
            ("postgres", POOLER),
            (f"postgres.{PROJECT}", "db.example.com"),
            (f"postgres.{PROJECT}", f"{POOLER}.example.com"),
            ("postgres.evil.example.com/", POOLER),
            (f"postgres.{PROJECT}", None),
        ],
    )
    def test_follows_from_nothing_else(
        self, monkeypatch: pytest.MonkeyPatch, user: str, host: str | None
    ) -> None:
        change_settings(monkeypatch, POSTGRES_USER=user, POSTGRES_HOST=host)
        assert configured().project_url is None

    def test_follows_from_the_poolers_user(self, monkeypatch: pytest.MonkeyPatch) -> None:
        change_settings(monkeypatch, POSTGRES_USER=f"postgres.{PROJECT}", POSTGRES_HOST=POOLER)
        assert configured().issuer == f"https://{PROJECT}.supabase.co/auth/v1"

    def test_a_configured_one_wins(self, monkeypatch: pytest.MonkeyPatch) -> None:
        change_settings(monkeypatch, POSTGRES_USER=f"postgres.{PROJECT}", POSTGRES_HOST=POOLER)
        settings = configured(SUPABASE_URL="https://auth.example.com")
        assert settings.issuer == "https://auth.example.com/auth/v1"


class TestWithoutProject:
    def test_outside_local_it_is_missed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        change_settings(monkeypatch, ENVIRONMENT="production")
        with pytest.raises(ValidationError, match="ACCOUNTS_SUPABASE_URL is not set"):
            configured()
        monkeypatch.setenv("ACCOUNTS_SUPABASE_URL", "")
        monkeypatch.delenv("ACCOUNTS_JWKS_URL", raising=False)
        with pytest.raises(StartupError, match="ENVIRONMENT is production: set it to the project"):
            AccountsSettings.load()

    def test_in_local_no_user_is_known(self) -> None:
        assert configured().issuer is None
        assert configured().jwks_url is None

    @pytest.mark.slow
    def test_it_ends_the_start_with_one_line(self) -> None:
        outside = {
            "ENVIRONMENT": "production",
            "CORS_ORIGINS": "none",
            "ENABLED_EXTENSIONS": "accounts",
            "ACCOUNTS_SUPABASE_URL": "",
        }
        result = subprocess.run(
            [sys.executable, "-m", "kit.commands.serve", "--check"],
            cwd=BASE_DIR,
            env={**os.environ, **outside},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert result.returncode == 1
        assert result.stderr.startswith("error: ACCOUNTS_SUPABASE_URL is not set and ENVIRONMENT")
        assert "Traceback" not in result.stderr
