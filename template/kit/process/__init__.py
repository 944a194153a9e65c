"""The running process: its name, its log, and the embedded servers that it uses."""

from kit.process._local_services import (
    local_services_lease,
    start_local_services,
    temporary_postgres,
)
from kit.process._logging import ConsoleFormatter, JsonFormatter, configure_logging, mask_secrets
from kit.process._name import (
    POSTGRES_SERVICE_BYTES,
    PoolUse,
    ProcessName,
    Role,
    application_name,
    client_name,
    parse_process_name,
    pool_use,
    service_name,
    this_process,
)
