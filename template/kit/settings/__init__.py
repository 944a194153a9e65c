"""Settings: their sources, the kit's own fields, and how a wrong one is reported.

`settings` is the service's own instance, with its own fields; `app.core.config` makes it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from kit.settings._base import (
    BASE_DIR,
    CertificateFile,
    CommaSeparated,
    ServiceSettings,
    StartupError,
    devservices_package,
    dotenv_file,
    dotenv_table,
    environment_table,
    extension_problems,
    known_secrets,
    local_addresses,
    local_credentials,
    raw_value,
    service_table,
    setting_name,
    unknown_settings,
    values_with_open_dollar,
    where_set,
)
from kit.settings._service import (
    LOCAL_NAMES,
    LOCAL_ON_NETWORK,
    LOCAL_WITH_REMOTE_SERVERS,
    LOOPBACK_HOSTS,
    MINIMUM_SECRET_LENGTH,
    SHORTEST_PASSWORD,
    SUPABASE_POOLER_SUFFIX,
    SUPABASE_PROJECT_HOST,
    SUPABASE_TRANSACTION_PORT,
    Settings,
    is_guessable,
    is_remote,
    tls_options,
)

if TYPE_CHECKING:
    settings: Settings


def __getattr__(name: str) -> Any:
    """Import `settings` from the service, when they are first used."""
    if name == "settings":
        return import_module("app.core.config").settings
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
