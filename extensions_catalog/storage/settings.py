"""The extension's settings, `STORAGE_…` in the environment and in `.env`."""

import re
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from app.core.config import ServiceSettings, settings
from kit.settings import LOOPBACK_HOSTS, CommaSeparated

CONTENT_TYPE_PATTERN = r"^[a-z0-9][a-z0-9!#$&^_.+-]*/[a-z0-9][a-z0-9!#$&^_.+-]*$"
"""A media type in lower case, without parameters.

Source: https://www.rfc-editor.org/rfc/rfc6838#section-4.2
"""

LARGEST_UPLOAD = 5 * 1024**3
"""Largest upload in one PUT of S3, in bytes."""

REQUIRED = ("ENDPOINT_URL", "REGION", "BUCKET", "ACCESS_KEY_ID", "SECRET_ACCESS_KEY")


class StorageSettings(ServiceSettings):
    """The settings of the extension."""

    model_config = SettingsConfigDict(env_prefix="STORAGE_")

    ENDPOINT_URL: str | None = Field(
        None,
        description="S3 endpoint, https://<ref>.storage.supabase.co/storage/v1/s3 for Supabase.",
    )
    REGION: str | None = Field(
        None, description="Region; the dashboard shows it with the endpoint."
    )
    BUCKET: str | None = Field(
        None, description="Private bucket, used by this service and environment only."
    )
    ACCESS_KEY_ID: str | None = Field(None, description="S3 access key of the project.")
    SECRET_ACCESS_KEY: SecretStr | None = Field(None, description="The secret of that key.")
    MAX_BYTES: int = Field(
        25 * 1024**2, ge=1, le=LARGEST_UPLOAD, description="Largest file that may be uploaded."
    )
    CONTENT_TYPES: CommaSeparated = Field(
        ["application/pdf", "image/jpeg", "image/png", "image/webp", "text/csv", "text/plain"],
        description="Types of files that may be uploaded, separated by commas.",
    )
    URL_SECONDS: int = Field(
        600, ge=10, le=3600, description="Seconds for which a signed URL can be used."
    )
    GRACE_HOURS: int = Field(
        24, ge=2, description="Hours after which incomplete uploads are cleaned up."
    )
    TIMEOUT: float = Field(
        10, gt=0, le=60, description="Seconds to wait for each of the server's answers."
    )
    PAGE_SIZE: int = Field(50, ge=1, le=500, description="Most objects that one answer lists.")

    @field_validator("ENDPOINT_URL")
    @classmethod
    def _is_an_endpoint(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value)
        is_safe = parts.scheme == "https" or (
            parts.scheme == "http" and parts.hostname in LOOPBACK_HOSTS
        )
        if not is_safe or not parts.hostname or parts.query or parts.fragment or parts.username:
            raise ValueError("expected https://host/path (http:// is for this machine only)")
        return value.rstrip("/")

    @field_validator("CONTENT_TYPES")
    @classmethod
    def _are_content_types(cls, value: list[str]) -> list[str]:
        for content_type in value:
            if not re.match(CONTENT_TYPE_PATTERN, content_type):
                raise ValueError(f"{content_type} is not a media type, expected such as image/png")
        if not value:
            raise ValueError("lists no type, so nothing could be uploaded; list at least one")
        return value

    @model_validator(mode="after")
    def _refuse_what_cannot_work(self) -> "StorageSettings":
        missing = ", ".join(f"STORAGE_{name}" for name in self.missing)
        if missing and not settings.is_local:
            raise ValueError(
                f"{missing} not set and ENVIRONMENT is {settings.ENVIRONMENT}: set it to what "
                "your project's dashboard shows under Storage, S3, or remove storage from "
                "ENABLED_EXTENSIONS."
            )
        if missing and len(self.missing) < len(REQUIRED):
            raise ValueError(f"{missing} not set while others are: set all of them, or none.")
        return self

    @property
    def missing(self) -> list[str]:
        """Names of the required fields that are not set."""
        return [name for name in REQUIRED if not getattr(self, name)]


storage_settings = StorageSettings.load()
