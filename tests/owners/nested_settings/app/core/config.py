"""The service's settings: the kit's, and yours beside them.

`settings` is made once, at import, from the environment, `.env` and `[tool.service]` of
`pyproject.toml`. Each field's description is the line that `.env.example` shows.
"""

from app.core.smtp import Smtp
from kit.settings import BASE_DIR, ServiceSettings, StartupError
from kit.settings import Settings as KitSettings

__all__ = ["BASE_DIR", "ServiceSettings", "Settings", "StartupError", "settings"]


class Settings(KitSettings):
    """The settings of the service. Your fields go here, declared like those of the kit."""

    SMTP: Smtp = Smtp()


settings = Settings.load()
