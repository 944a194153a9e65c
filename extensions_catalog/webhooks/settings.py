"""The extension's settings, `WEBHOOKS_…` in the environment and in `.env`."""

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import SettingsConfigDict

from app.core.config import ServiceSettings, settings


class WebhooksSettings(ServiceSettings):
    """What the extension can be told."""

    model_config = SettingsConfigDict(env_prefix="WEBHOOKS_")

    PAGE_SIZE: int = Field(
        50, ge=1, le=500, description="Most subscriptions or deliveries that one answer lists."
    )
    ALLOW_PRIVATE_TARGETS: bool = Field(
        False,
        description="Allow receivers in private networks and without TLS; for development.",
    )
    TIMEOUT: float = Field(
        15, gt=0, le=60, description="Seconds that a receiver has to take a message and answer."
    )
    CONCURRENCY: int = Field(
        10, ge=1, le=50, description="Most requests that one worker sends at the same time."
    )
    ATTEMPTS: int = Field(
        10, ge=1, le=20, description="Attempts before a delivery is given up; 10 take 3.5 days."
    )
    DEAD_LETTER_LIMIT: int = Field(
        10, ge=1, description="Deliveries given up in a row that switch a subscription off."
    )
    BODY_LIMIT: int = Field(
        65536, gt=0, description="Most bytes of a message; a larger one is not delivered."
    )
    ROTATION_SECONDS: int = Field(
        86400, ge=0, description="How long a replaced secret signs beside the new one."
    )
    FORMER_SECRET_KEY: SecretStr | None = Field(
        None,
        description="SECRET_KEY before it was changed: opens secrets until the next night's task.",
    )
    KEEP_DAYS: int = Field(
        30, ge=1, description="Days after which deliveries that have ended are deleted."
    )

    @model_validator(mode="after")
    def _refuse_private_targets(self) -> "WebhooksSettings":
        if self.ALLOW_PRIVATE_TARGETS:
            settings.refuse_unsafe(
                "webhooks-private-targets",
                "Remove WEBHOOKS_ALLOW_PRIVATE_TARGETS: whoever makes a subscription reaches "
                "servers of this network.",
            )
        return self


webhooks_settings = WebhooksSettings.load()
