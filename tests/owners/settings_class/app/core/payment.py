"""Settings of the payment provider."""

from pydantic import BaseModel, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Retry(BaseModel):
    """How often a payment is tried."""

    times: int = 1


class PaymentSettings(BaseSettings):
    """`PAYMENT_…` in the environment."""

    model_config = SettingsConfigDict(
        env_prefix="PAYMENT_", env_nested_delimiter="__", env_file=".env", extra="ignore"
    )

    key: SecretStr = SecretStr("")
    retry: Retry = Retry()


payment_settings = PaymentSettings()
