"""The extension's settings, `MAIL_…` in the environment and in `.env`."""

from typing import Literal

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from app.core.config import ServiceSettings, settings
from app.extensions.mail.addresses import parse_address
from kit.settings import CertificateFile, is_remote

TlsMode = Literal["starttls", "tls", "none"]

USUAL_PORTS: dict[TlsMode, int] = {"starttls": 587, "tls": 465, "none": 25}
"""Submission, submission over TLS, and plain SMTP.

Source: https://www.rfc-editor.org/rfc/rfc8314#section-7
"""


class MailSettings(ServiceSettings):
    """What the extension can be told."""

    model_config = SettingsConfigDict(env_prefix="MAIL_")

    FROM: str = Field("service@example.com", description="Address that the mails come from.")
    FROM_NAME: str | None = Field(
        None, max_length=100, description="Name beside that address; unset, PROJECT_NAME."
    )
    SMTP_HOST: str | None = Field(
        None, description="SMTP server; without one, local keeps mails unsent and shows them."
    )
    SMTP_PORT: int | None = Field(
        None, ge=1, le=65535, description="Its port; unset, 587, with tls 465, with none 25."
    )
    SMTP_TLS: TlsMode = Field(
        "starttls", description="starttls, tls (from the first byte on) or none."
    )
    SMTP_CA_FILE: CertificateFile | None = Field(
        None, description="Certificate file to verify it with; the system's are used otherwise."
    )
    SMTP_USERNAME: str | None = Field(None, description="User of the SMTP server, if it wants one.")
    SMTP_PASSWORD: SecretStr | None = Field(None, description="That user's password, as it is.")
    SMTP_TIMEOUT: float = Field(
        15, gt=0, description="Seconds to wait for each of the server's answers while connecting."
    )
    SEND_TIMEOUT: float = Field(
        120, gt=0, le=600, description="Seconds that sending one mail may take altogether."
    )
    MAX_ATTEMPTS: int = Field(
        8, ge=1, le=50, description="Attempts before a mail counts as failed; 8 take half a day."
    )
    KEEP_DAYS: int = Field(
        90, ge=1, description="Days after which mails that are done with are deleted."
    )
    PAGE_SIZE: int = Field(50, ge=1, le=500, description="Most mails that one answer lists.")

    @field_validator("FROM")
    @classmethod
    def _is_an_address(cls, value: str) -> str:
        return parse_address(value)

    @model_validator(mode="after")
    def _refuse_what_cannot_work(self) -> "MailSettings":
        problems = list(self._contradictions())
        if not self.SMTP_HOST and not settings.is_local:
            problems.append(
                f"MAIL_SMTP_HOST is not set and ENVIRONMENT is {settings.ENVIRONMENT}: set it to "
                "your mail provider's SMTP server, or take mail out of ENABLED_EXTENSIONS."
            )
        if problems:
            raise ValueError("\n       ".join(problems))
        return self

    def _contradictions(self) -> list[str]:
        problems = []
        if self.SMTP_HOST and "FROM" not in self.model_fields_set:
            problems.append(
                "MAIL_SMTP_HOST is set but MAIL_FROM is not: set it to an address of your domain "
                "that this server sends for."
            )
        if bool(self.SMTP_USERNAME) != bool(self.SMTP_PASSWORD):
            problems.append(
                "of MAIL_SMTP_USERNAME and MAIL_SMTP_PASSWORD one is set; set both or neither."
            )
        password = self.SMTP_PASSWORD.get_secret_value() if self.SMTP_PASSWORD else ""
        if not f"{self.SMTP_USERNAME}{password}".isascii():
            problems.append(
                "MAIL_SMTP_USERNAME or MAIL_SMTP_PASSWORD has characters beyond ASCII, which "
                "Python's smtplib cannot send: choose others."
            )
        if password and self.SMTP_TLS == "none" and is_remote(self.SMTP_HOST):
            problems.append(
                "MAIL_SMTP_TLS is none, so MAIL_SMTP_PASSWORD would cross the network readable by "
                "all: set it to starttls or tls."
            )
        return problems

    @model_validator(mode="after")
    def _refuse_mails_in_clear(self) -> "MailSettings":
        if self.SMTP_TLS == "none" and is_remote(self.SMTP_HOST):
            settings.refuse_unsafe(
                "mail-without-tls",
                "Set MAIL_SMTP_TLS to starttls or tls: without, mails cross the network readable "
                "by all.",
            )
        return self

    @property
    def port(self) -> int:
        """Port of the SMTP server."""
        return self.SMTP_PORT or USUAL_PORTS[self.SMTP_TLS]

    @property
    def from_name(self) -> str:
        """Name beside the address that mails come from."""
        return self.FROM_NAME or settings.PROJECT_NAME

    @property
    def from_domain(self) -> str:
        """Domain of the address that mails come from."""
        return self.FROM.rpartition("@")[2]


mail_settings = MailSettings.load()
