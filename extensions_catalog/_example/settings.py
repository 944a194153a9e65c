"""The extension's settings, `EXAMPLE_…` in the environment and in `.env`."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from app.core.config import ServiceSettings


class ExampleSettings(ServiceSettings):
    """The settings of the extension."""

    model_config = SettingsConfigDict(env_prefix="EXAMPLE_")

    PAGE_SIZE: int = Field(50, ge=1, le=500, description="Most notes that the page shows.")


example_settings = ExampleSettings.load()
