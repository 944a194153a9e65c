"""The extension's settings, `ACCOUNTS_…` in the environment and in `.env`."""

import re
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from app.core.config import ServiceSettings, settings
from kit.settings import LOOPBACK_HOSTS, SUPABASE_POOLER_SUFFIX, CommaSeparated

_POOLER_USER = re.compile(r"[^.]+\.(?P<project>[a-z0-9]+)")


class AccountsSettings(ServiceSettings):
    """The settings of the extension."""

    model_config = SettingsConfigDict(env_prefix="ACCOUNTS_")

    SUPABASE_URL: str | None = Field(
        None,
        description="Address of the Supabase project; unset, derived from POSTGRES_USER.",
    )
    JWKS_URL: str | None = Field(
        None, description="Address of the project's public keys; unset, Supabase's own."
    )
    AUDIENCE: str = Field(
        "authenticated", min_length=1, description="Audience that an access token has to have."
    )
    OAUTH_CLIENTS: CommaSeparated = Field(
        [],
        description="Ids of OAuth clients that may call on behalf of users, separated by commas.",
    )
    # Supabase caches the set itself for ten minutes, and recommends no longer cache.
    JWKS_CACHE_SECONDS: int = Field(
        600, gt=0, le=86400, description="Seconds after which the public keys are fetched again."
    )
    JWKS_STALE_SECONDS: int = Field(
        3600,
        ge=0,
        le=86400,
        description="Further seconds for which stale keys are used while none can be fetched.",
    )
    RETENTION_DAYS: int | None = Field(
        None,
        ge=1,
        le=36500,
        description="Days without a visit after which a profile is anonymised; unset, never.",
    )

    @field_validator("SUPABASE_URL", "JWKS_URL")
    @classmethod
    def _fit_for_keys(cls, value: str | None) -> str | None:
        """Require https: anyone who can forge this address's answers can sign in as any user."""
        if value is None:
            return None
        split = urlsplit(value)
        is_local = split.scheme == "http" and split.hostname in LOOPBACK_HOSTS
        if not split.hostname or not (split.scheme == "https" or is_local):
            raise ValueError("is no https:// address (http:// is for this machine only)")
        if split.username or split.query or split.fragment:
            raise ValueError("has more than a host and a path")
        return value.rstrip("/")

    @model_validator(mode="after")
    def _refuse_what_cannot_work(self) -> "AccountsSettings":
        if not settings.is_local and self.issuer is None:
            raise ValueError(
                f"ACCOUNTS_SUPABASE_URL is not set and ENVIRONMENT is {settings.ENVIRONMENT}: set "
                "it to the project's address, as https://abcdefghijklmnopqrst.supabase.co."
            )
        return self

    @property
    def project_url(self) -> str | None:
        """Address of the Supabase project; the pooler's user is `postgres.<project>`."""
        if self.SUPABASE_URL:
            return self.SUPABASE_URL
        pooler_user = _POOLER_USER.fullmatch(settings.POSTGRES_USER)
        if pooler_user and (settings.POSTGRES_HOST or "").endswith(SUPABASE_POOLER_SUFFIX):
            return f"https://{pooler_user['project']}.supabase.co"
        return None

    @property
    def issuer(self) -> str | None:
        """Value of the claim `iss` of access tokens; None where no project is configured."""
        return self.project_url and f"{self.project_url}/auth/v1"

    @property
    def jwks_url(self) -> str | None:
        """Address of the project's public keys.

        Source: https://supabase.com/docs/guides/auth/signing-keys
        """
        return self.JWKS_URL or (self.issuer and f"{self.issuer}/.well-known/jwks.json")


accounts_settings = AccountsSettings.load()
