"""What the extension refuses to start with."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from app.core.config import BASE_DIR, StartupError, settings
from app.extensions.mail.settings import MailSettings
from kit.testing import change_settings

CONFIGURED = {"SMTP_HOST": "smtp.example.com", "FROM": "shop@example.com"}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Without the settings of whoever runs the tests."""
    for name in MailSettings.model_fields:
        monkeypatch.delenv(f"MAIL_{name}", raising=False)
    monkeypatch.setitem(MailSettings.model_config, "env_file", None)
    return monkeypatch


def load(environment: pytest.MonkeyPatch, **values: str) -> MailSettings:
    for name, value in values.items():
        environment.setenv(f"MAIL_{name}", value)
    return MailSettings.load()


class TestRefusals:
    @pytest.mark.parametrize(
        ("values", "message"),
        [
            ({"SMTP_HOST": "smtp.example.com"}, "MAIL_SMTP_HOST is set but MAIL_FROM is not"),
            ({"FROM": "shop"}, r"MAIL_FROM \(set in the environment\): .*@-sign"),
            ({"SMTP_USERNAME": "shop"}, "MAIL_SMTP_USERNAME and MAIL_SMTP_PASSWORD one is set"),
            ({"SMTP_PASSWORD": "sesame"}, "MAIL_SMTP_USERNAME and MAIL_SMTP_PASSWORD one is set"),
            ({"SMTP_USERNAME": "shop", "SMTP_PASSWORD": "größer"}, "characters beyond ASCII"),
            (
                {"SMTP_USERNAME": "shop", "SMTP_PASSWORD": "sesame", "SMTP_TLS": "none"},
                "MAIL_SMTP_PASSWORD would cross the network readable",
            ),
            ({"SMTP_TLS": "ssl"}, "MAIL_SMTP_TLS .*'starttls', 'tls' or 'none'"),
            ({"SMTP_CA_FILE": "absent.crt"}, "MAIL_SMTP_CA_FILE .*there is no file"),
            ({"MAX_ATTEMPTS": "0"}, "MAIL_MAX_ATTEMPTS .*greater than or equal to 1"),
        ],
    )
    def test_is_told_what_to_set(
        self, environment: pytest.MonkeyPatch, values: dict[str, str], message: str
    ) -> None:
        values = values if set(values) == {"SMTP_HOST"} else CONFIGURED | values
        with pytest.raises(StartupError, match=message) as caught:
            load(environment, **values)
        assert "sesame" not in caught.value.message

    def test_outside_local_a_server_has_to_be_named(
        self, environment: pytest.MonkeyPatch, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        change_settings(monkeypatch, ENVIRONMENT="staging")
        with pytest.raises(
            StartupError, match="MAIL_SMTP_HOST is not set and ENVIRONMENT is staging: set it to"
        ):
            load(environment)
        assert load(environment, **CONFIGURED).SMTP_HOST == "smtp.example.com"

    @pytest.mark.slow
    @pytest.mark.parametrize(
        "command",
        [
            ("kit.commands.serve", "--check"),
            ("celery", "-A", "app.core.celery", "worker"),
        ],
        ids=lambda command: command[0],
    )
    def test_the_service_does_not_start_without(self, command: tuple[str, ...]) -> None:
        production = {"ENVIRONMENT": "production", "CORS_ORIGINS": "none", "MAIL_SMTP_HOST": ""}
        result = subprocess.run(
            [sys.executable, "-m", *command],
            cwd=BASE_DIR,
            env=os.environ | production | {"POSTGRES_PASSWORD": "x"},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        output = result.stdout + result.stderr
        assert result.returncode == 1, output
        assert output.count("error:") == 1
        assert "MAIL_SMTP_HOST is not set and ENVIRONMENT is production" in output
        assert "Traceback" not in output


class TestValues:
    def test_in_local_nothing_has_to_be_set(self, environment: pytest.MonkeyPatch) -> None:
        assert load(environment).SMTP_HOST is None

    @pytest.mark.parametrize(
        ("values", "port"),
        [
            ({}, 587),
            ({"SMTP_TLS": "tls"}, 465),
            ({"SMTP_TLS": "none"}, 25),
            ({"SMTP_PORT": "2525"}, 2525),
        ],
    )
    def test_the_port_follows_from_the_tls_mode(
        self, environment: pytest.MonkeyPatch, values: dict[str, str], port: int
    ) -> None:
        assert load(environment, **(CONFIGURED | values)).port == port

    def test_mails_come_from_the_project(self, environment: pytest.MonkeyPatch) -> None:
        assert load(environment).from_name == settings.PROJECT_NAME
        assert load(environment, FROM_NAME="The Shop").from_name == "The Shop"

    def test_the_password_is_not_shown(self, environment: pytest.MonkeyPatch) -> None:
        login: dict[str, Any] = {"SMTP_USERNAME": "shop", "SMTP_PASSWORD": "sesame"}
        assert "sesame" not in repr(load(environment, **(CONFIGURED | login)))

    def test_a_password_may_cross_this_machine_in_the_clear(
        self, environment: pytest.MonkeyPatch
    ) -> None:
        login = {"SMTP_USERNAME": "shop", "SMTP_PASSWORD": "sesame", "SMTP_TLS": "none"}
        assert load(environment, **(CONFIGURED | login | {"SMTP_HOST": "localhost"})).port == 25


def test_a_certificate_file_is_found_from_the_projects_root(
    environment: pytest.MonkeyPatch, certificates: Path
) -> None:
    file = load(environment, **CONFIGURED, SMTP_CA_FILE=str(certificates / "ca.crt")).SMTP_CA_FILE
    assert file == certificates / "ca.crt"
