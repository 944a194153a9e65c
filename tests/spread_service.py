"""A rendered service spread over machines, with tasks that write down where they ran."""

import json
import os
import re
import secrets
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.installed_servers import installed_program
from tests.machines import Host, Network, Process
from tests.parcels import CALLER, add_parcels, packed
from tests.service import Service

POSTGRES_LIMIT = 6
REDIS_LIMIT = 30

VISIBILITY_TIMEOUT = 20
"""Seconds; with the sweep of kombu's that looks for abandoned tasks a lost one waits longer."""

PORTS = {"api": "8000", "flower": "5555", "redis": "6379", "pgbouncer": "6432"}

CELERY = (".venv/bin/celery", "--app", "app.core.celery:celery_app")
SERVE = (".venv/bin/python", "-m", "kit.commands.serve")
TOKEN = (".venv/bin/python", "-m", "kit.commands.token", "create", "caller")

PGBOUNCER = """
[databases]
* = host={socket} port={port} user={user} password='{password}'
[pgbouncer]
listen_addr = {address}
listen_port = {own_port}
unix_socket_dir =
auth_type = any
pool_mode = session
default_pool_size = {size}
max_client_conn = 100
query_wait_timeout = 30
ignore_startup_parameters = extra_float_digits
tcp_keepidle = 5
tcp_keepintvl = 5
tcp_keepcnt = 3
"""


@dataclass(frozen=True)
class Sample:
    """Who was connected to Redis at a moment."""

    at: float
    connections: list[tuple[str, str]]
    """Name and last command of each; one that is just being opened has no name yet."""

    def by_process(self) -> Counter[str]:
        """Connections of each process that has said its name."""
        return Counter(name for name, _ in self.connections if name)

    def waiting(self) -> set[tuple[str, str]]:
        """Role and command of those that wait for messages."""
        waits = {"blmove", "psubscribe"}
        return {(role_of(name), command) for name, command in self.connections if command in waits}


def role_of(name: str) -> str:
    """The role in a connection's name, as `worker` in `shop:worker@host:4711`."""
    return name.partition(":")[2].partition("@")[0]


class SpreadService:
    """API, beat and Flower on one machine, workers on two, Redis and PgBouncer on a fourth."""

    def __init__(self, project: Service, network: Network, postgres: dict[str, str]) -> None:
        """Start all of it, and wait until all of it is there.

        Args:
            project: a project that is set up, and of which nothing else runs.
            network: a network without hosts.
            postgres: settings that lead to a PostgreSQL, which is on no machine of the network,
                with the folder of its socket as `POSTGRES_SOCKET`.
        """
        self.project = project
        self.network = network
        self.password = secrets.token_hex(8)
        """Redis's and Flower's."""
        self.data = network.host("data", 1)
        self.api = network.host("api", 2)
        self.workers = [network.host("worker-1", 3), network.host("worker-2", 4)]
        self._postgres = postgres
        self._accepted: dict[int, str] = {}
        add_parcels(project.folder)
        self._start_redis()
        self._start_pgbouncer()
        self._write_settings()
        self.run(self.api, ".venv/bin/alembic", "upgrade", "heads")
        self._sql("CREATE TABLE packing (number integer, host text)")
        self._bearer = f"Bearer {self.run(self.api, *TOKEN).split()[-1]}"
        self._samples, self._pools = self._watch_redis(), self._watch_pgbouncer()
        self._start_processes()
        self._caller = network.host("caller", 9).start(sys.executable, "-c", CALLER)

    def start_worker(self, host: Host, **settings: str) -> Process:
        """A worker, as the compose file has it; without waiting for it."""
        options = ("--pool", "solo", "--concurrency", "1", "--task-events")
        return self._start(host, *CELERY, "worker", *options, **settings)

    def run(self, host: Host, *command: str) -> str:
        """Run a command of the project's on a machine; what it writes to stdout."""
        environment = self.project.environment
        return host.run(*command, folder=self.project.folder, environment=environment)

    def begun(self, number: int) -> list[str]:
        """Where the packing of a parcel has begun, once for each time."""
        return self._sql(f"SELECT host FROM packing WHERE number = {number:d}")  # noqa: S608

    def send(self, number: int, seconds: float = 0) -> None:
        """Have the caller send a parcel, and wait until the API has answered."""
        url = f"http://{self.api.address}:{PORTS['api']}/api/parcels/{number}?seconds={seconds}"
        self._accepted[number] = self.call("POST", url, self._bearer)

    def call(self, method: str, url: str, authorization: str = "") -> str:
        """Have the caller make a request; the status of the answer, or why there was none."""
        before = len(self._caller.lines)
        self._caller.write(f"{method}\t{url}\t{authorization}\n")
        return self._caller.wait_for(url, after=before).removeprefix(f"{url} ")

    def accepted(self) -> set[int]:
        """The numbers of all parcels that the API has accepted."""
        return {number for number, status in self._accepted.items() if status == "202"}

    def packed(self) -> dict[int, set[str]]:
        """On which machines each parcel was packed to the end."""
        return packed(self.project.folder)

    def census(self, host: Host) -> dict[str, Any]:
        """What `make connections json=1` says there of Redis."""
        said: dict[str, Any] = json.loads(
            self.run(host, "make", "--silent", "connections", "json=1")
        )
        assert said["PostgreSQL"]["over"] is False
        redis: dict[str, Any] = said["Redis"]
        return redis

    def samples(self) -> Iterator[Sample]:
        """All samples of Redis's connections so far."""
        assert self._samples.is_running, self._samples.lines[-1]
        for line in list(self._samples.lines):
            sample = json.loads(line)
            yield Sample(sample["at"], [(name, command) for name, command in sample["connections"]])

    def pooler_samples(self) -> list[dict[str, int]]:
        """What `SHOW POOLS` has said of the service's pool so far."""
        assert self._pools.is_running, self._pools.lines[-1]
        lines = [line.split(",") for line in self._pools.lines]
        names = next(line for line in lines if "cl_waiting" in line)
        return [
            {name: int(value) for name, value in zip(names, line, strict=True) if value.isdigit()}
            for line in lines
            if line[0] == "postgres"
        ]

    def pooler_clients(self) -> list[str]:
        """Addresses of the pooler's clients, one for each connection."""
        said = self.data.run(*self._ask_pgbouncer(), "--csv", "--command", "SHOW CLIENTS")
        return re.findall(r",(10\.[\d.]+),\d+,", said)

    def _start_redis(self) -> None:
        # A machine that is gone is noticed within seconds; docs/limits.md says what is usual.
        self.data.run("sh", "-c", "echo 5 > /proc/sys/net/ipv4/tcp_retries2")
        redis = self.data.start(
            *(installed_program("redis-server", "redis-server"), "--bind", self.data.address),
            *("--port", PORTS["redis"], "--requirepass", self.password, "--databases", "1"),
            *("--maxclients", str(REDIS_LIMIT), "--save", "", "--tcp-keepalive", "5"),
        )
        redis.wait_for("Ready to accept connections")

    def _start_pgbouncer(self) -> None:
        configuration = self.project.folder.parent / "pgbouncer.ini"
        text = PGBOUNCER.format(
            socket=self._postgres["POSTGRES_SOCKET"],
            port=self._postgres["POSTGRES_PORT"],
            user=self._postgres["POSTGRES_USER"],
            password=self._postgres["POSTGRES_PASSWORD"].replace("'", "''"),
            address=self.data.address,
            own_port=PORTS["pgbouncer"],
            size=POSTGRES_LIMIT,
        )
        configuration.write_text(text, encoding="utf-8")
        # It refuses to run as root, which on a host everybody seems to be.
        nobody = ("unshare", "--user", "--map-user", "1000", "--map-group", "1000")
        pgbouncer = installed_program("pgbouncer", "pgbouncer")
        self.data.start(*nobody, pgbouncer, str(configuration)).wait_for("process up")

    def _write_settings(self) -> None:
        address = self.data.address
        settings = {
            "ENVIRONMENT": "production",
            "ALLOW_UNSAFE": "database-without-tls,redis-without-tls",
            "SECRET_KEY": secrets.token_urlsafe(32),
            "CORS_ORIGINS": "none",
            "FLOWER_PASSWORD": self.password,
            "POSTGRES_HOST": address,
            "POSTGRES_PORT": PORTS["pgbouncer"],
            "POSTGRES_USER": "owner",
            "POSTGRES_PASSWORD": "not asked for",
            "POSTGRES_DB": "postgres",
            "POSTGRES_POOLER": "session",
            "POSTGRES_SSLMODE": "disable",
            "POSTGRES_CONNECTION_LIMIT": str(POSTGRES_LIMIT),
            "REDIS_HOST": address,
            "REDIS_PORT": PORTS["redis"],
            "REDIS_PASSWORD": self.password,
            "CELERY_WORKERS": str(len(self.workers)),
            "CELERY_VISIBILITY_TIMEOUT": str(VISIBILITY_TIMEOUT),
            "CELERY_TASK_MAX_SECONDS": str(VISIBILITY_TIMEOUT - 5),
        }
        lines = [f"{name}='{value}'\n" for name, value in settings.items()]
        (self.project.folder / ".env").write_text("".join(lines), encoding="utf-8")

    def _sql(self, statement: str) -> list[str]:
        """Ask the database, past the pooler; the rows as text."""
        names = ("HOST", "PORT", "USER", "DB")
        host, port, user, database = (self._postgres[f"POSTGRES_{name}"] for name in names)
        done = subprocess.run(
            [
                *(installed_program("psql", "postgresql-client"), "--no-psqlrc", "--no-align"),
                *("--host", host, "--port", port, "--username", user, "--tuples-only"),
                *("--command", statement, database),
            ],
            env=os.environ | {"PGPASSWORD": self._postgres["POSTGRES_PASSWORD"]},
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
        return done.stdout.splitlines()

    def _watch_redis(self) -> Process:
        script = str(Path(__file__).parent / "client_list.py")
        where = (self.data.address, PORTS["redis"], self.password)
        return self.data.start(sys.executable, script, *where)

    def _watch_pgbouncer(self) -> Process:
        watching = self.data.start(*self._ask_pgbouncer(), "--csv")
        watching.write("SHOW POOLS \\watch 0.05\n")
        return watching

    def _ask_pgbouncer(self) -> tuple[str, ...]:
        psql = (installed_program("psql", "postgresql-client"), "--no-psqlrc")
        where = ("--host", self.data.address, "--port", PORTS["pgbouncer"])
        return (*psql, *where, "--username", "owner", "pgbouncer")

    def _start_processes(self) -> None:
        workers = [self.start_worker(host) for host in self.workers]
        api = self._start(self.api, *SERVE, API_HOST=self.api.address, API_PORT=PORTS["api"])
        beat = self._start(self.api, *CELERY, "beat")
        flower = self._start(
            *(self.api, *CELERY, "flower", "--conf=flowerconfig.py"),
            FLOWER_HOST=self.api.address,
            FLOWER_PORT=PORTS["flower"],
        )
        for worker in workers:
            worker.wait_for("ready.")
        api.wait_for("Application startup complete")
        beat.wait_for("Acquired lock")
        flower.wait_for("Connected to redis")

    def _start(self, host: Host, *command: str, **settings: str) -> Process:
        environment = self.project.environment | {"PYTHONUNBUFFERED": "1"} | settings
        return host.start(*command, folder=self.project.folder, environment=environment)
