"""The service while its database, or the way there, fails: what it answers, and that it recovers.

The faults are made with real servers: a link that goes silent, a PostgreSQL that stands still, is
read-only, recovers, or has no connection left, and a pooler that is restarted.
"""

import asyncio
import logging
import os
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from tempfile import mkdtemp

import asyncpg  # type: ignore[import-untyped]
import httpx
import psycopg2
import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import OperationalError

from app.core.config import settings
from kit import database
from kit.database import name_connections
from kit.devservices import temporary_servers
from kit.errors import is_outage
from kit.process import application_name, this_process
from kit.testing import own_database, run_api
from kit.tests.background import Background
from kit.tests.faulty_link import FaultyLink
from kit.tests.pgbouncer import pgbouncer
from kit.tests.watched_service import at_start

pytestmark = [pytest.mark.slow, pytest.mark.load]

RECOVERY_SECONDS = 15
"""Within this time after any fault everything serves again."""
FAULT_SECONDS = 1.5
WRITERS = 12

logger = logging.getLogger(__name__)


class Writers(Background):
    """Clients that write as fast as they may, and remember what was acknowledged."""

    def __init__(self, address: str, path: str, count: int) -> None:
        super().__init__([partial(self._write, number) for number in range(count)])
        self.address, self.path = address, path
        self.acknowledged: set[str] = set()
        self.refusals: list[httpx.Response] = []

    def _write(self, writer: int) -> None:
        number = 0
        with httpx.Client(base_url=self.address, timeout=40) as http:
            while not self._end.wait(0.05):
                number += 1
                text = f"{self.path} {writer}-{number}"
                answer = http.post(f"/api/lasting/{self.path}", params={"text": text})
                if answer.status_code == 200:
                    self.acknowledged.add(text)
                else:
                    self.refusals.append(answer)


class Service:
    """A running service, under load while a `with self.load()` lasts."""

    def __init__(self, address: str, http: httpx.Client) -> None:
        self.address, self.http = address, http

    @contextmanager
    def load(self) -> Iterator[None]:
        """Write by both engines; at the end all that was acknowledged is there, the rest is 503."""
        with (
            Writers(self.address, "notes", WRITERS) as writers,
            Writers(self.address, "sync-notes", 2) as others,
        ):
            while not (writers.acknowledged and others.acknowledged):
                time.sleep(0.05)
            yield
        kept = set(self.http.get("/api/lasting/notes").json())
        for each in (writers, others):
            statuses = Counter(answer.status_code for answer in each.refusals)
            logger.info("%s: %d acknowledged, %s", each.path, len(each.acknowledged), statuses)
            assert each.acknowledged <= kept
            assert set(statuses) <= {503}, [answer.text for answer in each.refusals]
            assert all(int(answer.headers["Retry-After"]) > 0 for answer in each.refusals)

    def write(self, text: str) -> httpx.Response:
        """Store a note."""
        return self.http.post("/api/lasting/notes", params={"text": text})

    def wait_until_it_works(self) -> None:
        """Wait until it is ready, and each of the pools' connections works."""
        began = time.monotonic()
        while not self._works():
            assert time.monotonic() - began < RECOVERY_SECONDS, "it has not recovered"
            time.sleep(0.1)
        logger.info("works again after %.1f s", time.monotonic() - began)

    def _works(self) -> bool:
        paths = ["/api/lasting/count"] * WRITERS + ["/health/ready"]
        answers = [self.http.get(path) for path in paths]
        answers.append(self.http.post("/api/lasting/sync-notes", params={"text": "probe"}))
        return {answer.status_code for answer in answers} == {200}

    def wait_until_not_ready(self, *reasons: str) -> None:
        """Wait until `/health/ready` says why; the process lives meanwhile."""
        deadline = time.monotonic() + RECOVERY_SECONDS
        while True:
            answer = self.http.get("/health/ready")
            if (
                answer.status_code == 503
                and answer.json()["checks"]["database"]["reason"] in reasons
            ):
                break
            assert time.monotonic() < deadline, answer.text
            time.sleep(0.1)
        assert int(answer.headers["Retry-After"]) > 0
        assert self.http.get("/health/live").status_code == 200


@contextmanager
def running(environment: Mapping[str, str], directory: Path) -> Iterator[Service]:
    """The service with short timeouts, so that six faults take seconds and not minutes."""
    quick = {"API_WORKERS": "1", "POSTGRES_COMMAND_TIMEOUT": "1.5", "POSTGRES_POOL_TIMEOUT": "2"}
    quick |= at_start(directory, "import kit.database as w; w.CHECK_SECONDS = 0.7")
    with (
        run_api({**environment, **quick}, module="kit.tests.lasting_service") as address,
        httpx.Client(base_url=address, timeout=40) as http,
    ):
        service = Service(address, http)
        service.wait_until_it_works()
        yield service


def at_port(url: str, port: int) -> str:
    """The URL of the same database by another port of this machine."""
    changed: URL = make_url(url).set(host="127.0.0.1", port=port)
    return changed.render_as_string(hide_password=False)


@pytest.fixture
def environment(test_database: str) -> Iterator[dict[str, str]]:
    """Environment of a service with a database of its own."""
    with own_database() as environment:
        yield environment


@pytest.fixture
def link(environment: dict[str, str]) -> Iterator[FaultyLink]:
    """A link to the database, by which the environment leads."""
    url = environment["DATABASE_URL"]
    with FaultyLink(make_url(url).port or 0) as link:
        environment["DATABASE_URL"] = at_port(url, link.port)
        yield link


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """The URL of the server."""
    with temporary_servers(redis=False) as addresses:
        url = f"{addresses.postgres.url}/postgres"
        run(url, "ALTER ROLE CURRENT_USER SET synchronous_commit = on")  # as in production
        yield url


def test_a_link_that_goes_silent_six_times_under_load(url: str, tmp_path: Path) -> None:
    """Connections that are open get no answer any more; new ones work.

    A server of its own has room for those that it does not know to be dead.
    """
    with FaultyLink(make_url(url).port or 0) as link:
        environment = {"DATABASE_URL": at_port(url, link.port), "POSTGRES_DB": "postgres"}
        with running(environment, tmp_path) as service, service.load():
            for _ in range(6):
                link.lose()
                service.wait_until_it_works()


@pytest.fixture(scope="module")
def service(url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The service on that server."""
    environment = {"DATABASE_URL": url, "POSTGRES_DB": "postgres"}
    with running(environment, tmp_path_factory.mktemp("service")) as service:
        yield service


class TestServer:
    """Faults of a PostgreSQL of the test's own, while the service is under load."""

    @pytest.mark.parametrize("scope", ["SYSTEM", "ROLE CURRENT_USER"])
    def test_read_only(self, service: Service, url: str, scope: str) -> None:
        """As Supabase answers a full disk, and as an old primary does after a failover.

        A role's setting holds for connections made meanwhile: new ones then lead to a server that
        takes writes, and those of the pool do not.
        """
        with service.load():
            run(url, f"ALTER {scope} SET default_transaction_read_only = on", renew=True)
            try:
                service.wait_until_not_ready("read-only")
                assert service.http.get("/api/lasting/count").status_code == 200
                time.sleep(FAULT_SECONDS)
            finally:
                run(url, f"ALTER {scope} RESET default_transaction_read_only")
            service.wait_until_it_works()

    def test_frozen(self, service: Service, url: str) -> None:
        with service.load():
            everyone = processes_of(url)
            for pid in everyone:
                os.kill(pid, signal.SIGSTOP)
            try:
                service.wait_until_not_ready("timeout", "busy")
                time.sleep(FAULT_SECONDS)
            finally:
                for pid in everyone:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGCONT)
            service.wait_until_it_works()

    def test_in_recovery(self, service: Service, url: str) -> None:
        """A server process is killed, so all others end, and new ones are refused for a while."""
        with service.load():
            os.kill(processes_of(url, of_service=True)[0], signal.SIGKILL)
            service.wait_until_it_works()

    def test_no_connection_left(self, service: Service, url: str) -> None:
        with service.load():
            with ExitStack() as others:
                take_all(url, others)
                service.wait_until_not_ready("unreachable", "busy")
                time.sleep(FAULT_SECONDS)
            service.wait_until_it_works()

    def test_disk_full(self, service: Service, url: str) -> None:
        """The file system of a table has no room left; what is there can still be read."""
        with small_disk(url) as folder:
            run(url, f"CREATE TABLESPACE small LOCATION '{folder}'")
            try:
                run(url, "ALTER TABLE audit_entry SET TABLESPACE small")
                with service.load():
                    fill(folder / "everything-else")
                    deadline = time.monotonic() + RECOVERY_SECONDS
                    while (answer := service.write("probe")).status_code == 200:
                        assert time.monotonic() < deadline, "the disk is not full"
                    assert answer.status_code == 503
                    assert service.http.get("/api/lasting/count").status_code == 200
                    (folder / "everything-else").unlink()
                    service.wait_until_it_works()
            finally:
                run(url, "ALTER TABLE audit_entry SET TABLESPACE pg_default")
                run(url, "DROP TABLESPACE small")


@contextmanager
def small_disk(url: str) -> Iterator[Path]:
    """A file system of a few megabytes, in a folder of the user that runs the server."""
    with closing(psycopg2.connect(url)) as connection:
        cursor = connection.cursor()
        cursor.execute("SHOW data_directory")
        owner = Path(cursor.fetchall()[0][0]).stat().st_uid
    folder = Path(mkdtemp())
    mount = ("mount", "-t", "tmpfs", "-o", f"size=8m,mode=0700,uid={owner}", "tmpfs", str(folder))
    try:
        made = subprocess.run(mount, check=False, capture_output=True, text=True)
        if made.returncode:
            pytest.skip(f"a file system cannot be mounted here: {made.stderr.strip()}")
        try:
            yield folder
        finally:
            subprocess.run(("umount", str(folder)), check=True)
    finally:
        folder.rmdir()


def fill(path: Path) -> None:
    """Write a file until its file system is full."""
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))


def take_all(url: str, others: ExitStack) -> None:
    """Take every connection of the server, those of the service included."""
    first = others.enter_context(closing(psycopg2.connect(url)))
    first.autocommit = True
    cursor = first.cursor()
    while True:
        with suppress(psycopg2.OperationalError):
            while True:
                others.enter_context(closing(psycopg2.connect(url)))
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name LIKE '%:api@%'"
        )
        if not cursor.fetchall():
            return


def run(url: str, statement: str, *, renew: bool = False) -> None:
    """Run a statement as the server's owner; `renew` ends the other connections."""
    options = "-c default_transaction_read_only=off"
    with closing(psycopg2.connect(url, options=options)) as connection:
        connection.autocommit = True
        cursor = connection.cursor()
        cursor.execute(statement)
        cursor.execute("SELECT pg_reload_conf()")
        if renew:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
            )


def processes_of(url: str, *, of_service: bool = False) -> list[int]:
    """The server's processes, its first one too; or those alone that serve the service."""
    with closing(psycopg2.connect(url)) as connection:
        cursor = connection.cursor()
        cursor.execute("SELECT pid, application_name LIKE '%:api@%' FROM pg_stat_activity")
        rows = cursor.fetchall()
        own = connection.info.backend_pid
        status = Path(f"/proc/{own}/stat").read_text(encoding="ascii")
    if of_service:
        return [pid for pid, serves in rows if serves]
    first = int(status.rpartition(")")[2].split()[1])
    return [first, *(pid for pid, _ in rows if pid != own)]


def test_a_pooler_that_is_restarted(environment: dict[str, str], tmp_path: Path) -> None:
    with ExitStack() as pooler:
        settings = pooler.enter_context(pgbouncer("session", pool_size=14))
        name = environment["POSTGRES_DB"]
        port = make_url(settings["DATABASE_URL"]).port or 0
        url = make_url(settings["DATABASE_URL"]).set(database=name)
        changed = environment | settings | {"DATABASE_URL": url.render_as_string()}
        with running(changed, tmp_path) as service, service.load():
            pooler.close()
            service.wait_until_not_ready("unreachable")
            pooler.enter_context(pgbouncer("session", pool_size=14, port=port))
            service.wait_until_it_works()


class TestSyncStatements:
    """A task's statement may take as long as it needs, but its answer may not be lost."""

    @pytest.fixture
    def engine(
        self, environment: dict[str, str], link: FaultyLink, monkeypatch: pytest.MonkeyPatch
    ) -> Iterator[Engine]:
        """An engine as the service's, which asks after a fraction of a second."""
        monkeypatch.setattr(database, "CHECK_SECONDS", 0.3)
        monkeypatch.setattr(database, "_watch", database._Watch())
        url = make_url(environment["DATABASE_URL"]).set(drivername="postgresql+psycopg2")
        engine = create_engine(url, pool_size=1, max_overflow=0, pool_pre_ping=True)
        name_connections(engine)
        yield engine
        engine.dispose()

    def test_a_long_one_ends_by_itself(self, engine: Engine) -> None:
        with engine.connect() as connection:
            assert connection.scalar(text("SELECT 'done' FROM pg_sleep(2)")) == "done"

    @pytest.mark.parametrize("statement", ["SELECT pg_sleep(0.5)", "COMMIT"])
    def test_one_whose_answer_is_lost_fails(
        self, engine: Engine, link: FaultyLink, statement: str
    ) -> None:
        with engine.connect() as connection:
            connection.execute(text("SELECT 1"))
            if statement == "COMMIT":
                link.lose()
                finish: Callable[[], object] = connection.commit
            else:
                threading.Timer(0.2, link.lose).start()
                finish = partial(connection.execute, text(statement))
            with pytest.raises(OperationalError) as caught:
                finish()
        assert is_outage(caught.value)
        with engine.connect() as connection:
            assert connection.scalar(text("SELECT 'again'")) == "again"

    @pytest.mark.parametrize("where", ["here", "another process", "another database"])
    def test_it_fails_while_others_run_the_same(
        self, engine: Engine, environment: dict[str, str], link: FaultyLink, where: str
    ) -> None:
        url = make_url(at_port(environment["DATABASE_URL"], settings.POSTGRES_PORT))
        if where == "another database":
            url = url.set(database="postgres")
        name = application_name(settings, this_process.role)
        if where != "here":
            name = f"{name.partition(':')[0]}:worker@elsewhere:1"

        with Sleepers(url, name), engine.connect() as connection:
            threading.Timer(0.2, link.lose).start()
            with pytest.raises(OperationalError):
                connection.execute(text(SLEEP))

    def test_it_fails_beside_one_that_is_half_sent(
        self, engine: Engine, environment: dict[str, str], link: FaultyLink
    ) -> None:
        """As one of a request, whose connection is lost after the server has prepared it."""
        url = at_port(environment["DATABASE_URL"], settings.POSTGRES_PORT)
        name = {"application_name": application_name(settings, this_process.role)}
        with asyncio.Runner() as runner:
            other = runner.run(asyncpg.connect(url, server_settings=name))
            runner.run(other.prepare(SLEEP))
            with engine.connect() as connection:
                threading.Timer(0.2, link.lose).start()
                with pytest.raises(OperationalError):
                    connection.execute(text(SLEEP))
            runner.run(other.close())


SLEEP = "SELECT pg_sleep(0.5)"


class Sleepers(Background):
    """Two connections of this name, of which at any time one runs the statement."""

    def __init__(self, url: URL, name: str) -> None:
        super().__init__([self._sleep] * 2)
        self._url = url.update_query_dict({"application_name": name}).render_as_string(
            hide_password=False
        )

    def _sleep(self) -> None:
        with closing(psycopg2.connect(self._url)) as connection:
            while not self._end.is_set():
                connection.cursor().execute(SLEEP)
