"""The project's embedded servers and, where it is installed, PgBouncer before them.

Prints the addresses as one line of JSON, and ends everything when its standard input closes.
"""

import json
import os
import shutil
import sys
from contextlib import ExitStack
from pathlib import Path

from kit.devservices import temporary_servers

TESTS_OF_THE_KIT = Path(__file__).parents[2] / "tests" / "kit"
"""A project with the default answers has none."""

DATABASE = "postgres"
POOLER_CONNECTIONS = 40


def main() -> None:
    """Start them, say where they are, and wait."""
    with ExitStack() as stack:
        addresses = stack.enter_context(temporary_servers())
        direct = f"{addresses.postgres.url}/{DATABASE}"
        found = {"direct": direct, "redis": addresses.redis.url}
        if shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin"):
            os.environ |= {"DATABASE_URL": direct, "POSTGRES_SSLMODE": "disable"}
            sys.path.append(str(TESTS_OF_THE_KIT))
            from pgbouncer import pgbouncer  # noqa: PLC0415 (reads the settings above)

            pooler = pgbouncer("transaction", pool_size=POOLER_CONNECTIONS)
            url = stack.enter_context(pooler)["DATABASE_URL"]
            # PgBouncer asks nobody for a password; production refuses to be without one.
            found["pooler"] = url.replace("@", ":unasked@", 1)
        print(json.dumps(found), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
