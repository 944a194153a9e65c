"""The extension's settings, `MESSENGER_…` in the environment and in `.env`."""

from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from app.core.config import ServiceSettings, settings
from kit.settings import LOOPBACK_HOSTS

REQUIRED_OUTSIDE_LOCAL = ("APP_SECRET", "VERIFY_TOKEN", "PAGE_TOKEN")


class MessengerSettings(ServiceSettings):
    """What the extension can be told."""

    model_config = SettingsConfigDict(env_prefix="MESSENGER_")

    APP_SECRET: SecretStr | None = Field(
        None,
        min_length=1,
        description="The Meta app's secret, which signs what the platform sends.",
    )
    VERIFY_TOKEN: SecretStr | None = Field(
        None,
        min_length=1,
        description="Of your choice; the same as in the app's dashboard, beside the webhook's URL.",
    )
    PAGE_TOKEN: SecretStr | None = Field(
        None,
        min_length=1,
        description="Access token of the page that replies; without one, local keeps them unsent.",
    )
    GRAPH_URL: str = Field(
        "https://graph.facebook.com/v25.0",
        description="Address of the Graph API, with the version that the service speaks.",
    )
    SEND_TIMEOUT: float = Field(
        15, gt=0, le=60, description="Seconds that sending one reply may take."
    )
    MAX_ATTEMPTS: int = Field(
        8, ge=1, le=20, description="Attempts before a reply counts as failed; 8 take three hours."
    )
    AUTO_REPLY: str | None = Field(
        None,
        min_length=1,
        max_length=2000,
        description="Text that answers a person's message, at most once a day; unset, none does.",
    )
    # The platform repeats a delivery for up to 36 hours, and only what is stored is recognised.
    KEEP_DAYS: int = Field(
        90, ge=3, description="Days after which messages that are done with are deleted."
    )
    PAGE_SIZE: int = Field(50, ge=1, le=500, description="Most messages that one answer lists.")

    @field_validator("APP_SECRET", "VERIFY_TOKEN", "PAGE_TOKEN")
    @classmethod
    def _is_one_word(cls, value: SecretStr | None) -> SecretStr | None:
        secret = value.get_secret_value() if value else ""
        if not (secret.isascii() and secret.isprintable()) or secret != secret.strip():
            raise ValueError("has spaces around it or characters that are not printable ASCII")
        return value

    @field_validator("GRAPH_URL")
    @classmethod
    def _keeps_the_token_safe(cls, value: str) -> str:
        split = urlsplit(value)
        is_local = split.scheme == "http" and split.hostname in LOOPBACK_HOSTS
        if not split.hostname or not (split.scheme == "https" or is_local):
            raise ValueError("expected an https:// address (http:// is for this machine only)")
        if split.username or split.query or split.fragment:
            raise ValueError("holds more than a host and a path")
        return value.rstrip("/")

    @model_validator(mode="after")
    def _refuse_what_cannot_work(self) -> "MessengerSettings":
        missing = [name for name in REQUIRED_OUTSIDE_LOCAL if getattr(self, name) is None]
        if missing and not settings.is_local:
            names = ", ".join(f"MESSENGER_{name}" for name in missing)
            raise ValueError(
                f"{names} not set and ENVIRONMENT is {settings.ENVIRONMENT}: set them to what the "
                "Meta app's dashboard says, or take messenger out of ENABLED_EXTENSIONS."
            )
        return self


messenger_settings = MessengerSettings.load()
