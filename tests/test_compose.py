"""The compose file, run by Docker's own Engine and Compose behind a proxy that speaks TLS.

One machine, `tests/docker_machine.py`, on which the service is started once, used, changed and
ended, in the order of the tests here. Its database and Redis are at another address than its own.
"""

import json
import re
import secrets
import shutil
import socket
import subprocess
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.built_image import EXTENSIONS_SETTINGS
from tests.callers import Callers
from tests.containers import PATIENCE, Engine, network_of
from tests.docker_machine import ADDRESS, Machine, docker_machine
from tests.installed_servers import (
    free_port,
    installed_postgres,
    installed_program,
    installed_redis,
    with_us,
)
from tests.repositories import REPOSITORY
from tests.service import answer_of, open_folder
from tests.test_browser import Watched
from tests.test_image import wait_until

pytestmark = [pytest.mark.full, pytest.mark.xdist_group("image")]

NAME = "api.example.com"
SITE = f"https://{NAME}"
SERVICES = ["api", "celery-worker", "celery-beat", "flower"]
"""All but `migrate`, which ends."""

DOCS = REPOSITORY / "docs"
CADDYFILE = DOCS / "deploy" / "files" / "server" / "Caddyfile"
DEPLOYMENT = (DOCS / "stack" / "deployment.md").read_text(encoding="utf-8")

OPERATIONS = {
    "token name=tests": "It will not be shown again",
    "admin-password username=ada": "ada",
    "connections": "2 API x 2 + 2 worker x 4",
    "db-status": "core_0003",
    "db-upgrade": "Will assume transactional DDL",
    "dead-letters": "no dead letters",
    "doctor": "0 problems",
    "doctor args=--production": "0 problems",
}
"""Targets of make, and a part of what each says."""

CHANGES = (
    ("db-downgrade to=core@-1 yes=1", 0, "Running downgrade core_0003 -> core_0002"),
    ("db-upgrade", 0, "Running upgrade core_0002 -> core_0003"),
    ("db-stamp to=heads", 0, "Will assume transactional DDL"),
    ("db-forget extension=gone", 2, "gone"),
    ("db-reset", 2, "production"),
)
"""What changes the database, in this order: the status that make ends with, and what it says."""

RELEASE, BACK = re.findall(r"```sh\n(docker tag .+?)```", DEPLOYMENT, re.DOTALL)
"""The commands that replace two APIs one after the other, and what to begin with to go back."""

BUILT_BEFORE = """#!/bin/sh
# Docker, except that it builds nothing: the next image is there.
[ "$*" != "compose build" ] || set -- tag next my-service
exec {docker} "$@"
"""

MIGRATION_FILE = "alembic/versions/next.py"
MIGRATION = '''
"""A migration."""

from alembic import op

revision = "next"
down_revision = None
branch_labels = ("service",)
depends_on = None


def upgrade() -> None:
    op.execute("{statement}")
'''
NEVER_READY = '''
    @app.get("/health/ready", status_code=503)
    @app.get("/api/naps/{seconds}", status_code=503)
    async def read_never_ready() -> None:
        """Answer as a release does that lacks something."""

'''


class Composition:
    """The service in a folder of the machine, and what an operator does there."""

    def __init__(self, machine: Machine, folder: Path, settings: dict[str, str]) -> None:
        """Use the folder, in which `.env` has the settings."""
        self.machine = machine
        self.folder = folder
        self.settings = settings
        self.configure()
        docker = folder.parent / "bin" / "docker"
        docker.parent.mkdir()
        docker.write_text(BUILT_BEFORE.format(docker=shutil.which("docker")))
        docker.chmod(0o755)
        self._path = f"PATH={docker.parent}:/usr/bin:/bin"

    def configure(self, **changed: str) -> None:
        """Write `.env`, with these changes to the settings."""
        lines = [f"{name}='{value}'\n" for name, value in (self.settings | changed).items()]
        (self.folder / ".env").write_text("".join(lines), encoding="utf-8")

    def build(self, tag: str, files: dict[str, str]) -> None:
        """Make an image of the service with these files, by their paths."""
        folder = self.folder.parent / tag
        for path, text in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text.lstrip(), encoding="utf-8")
        (folder / "Dockerfile").write_text("FROM one\nCOPY . /srv/service/\n", encoding="utf-8")
        self.machine.run("docker", "build", f"--tag={tag}", str(folder))

    def release(self, tag: str, commands: str = RELEASE) -> "subprocess.CompletedProcess[str]":
        """Run commands, for which the next image is the one of this tag, however they end."""
        self.machine.run("docker", "tag", tag, "next")
        return self.machine.outcome("env", self._path, "sh", "-ec", commands, folder=self.folder)

    def make(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run a target of make, however it ends."""
        make = ["env", self._path, "make", "--no-print-directory", *arguments]
        return self.machine.outcome(*make, folder=self.folder)

    def outcome(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run a command of Compose, however it ends."""
        return self.machine.outcome("docker", "compose", *arguments, folder=self.folder)

    def compose(self, *arguments: str) -> str:
        """Run a command of Compose, which has to end well; what it writes to stdout."""
        return self.machine.run("docker", "compose", *arguments, folder=self.folder)

    def containers(self, *services: str) -> list[dict[str, Any]]:
        """What the Engine knows of the services' containers."""
        ids = self.compose("ps", "--all", "--quiet", *services).split()
        found = json.loads(self.machine.run("docker", "inspect", *ids)) if ids else []
        assert isinstance(found, list)
        return found

    def ids(self) -> set[str]:
        """Of the containers that run."""
        return {each["Id"] for each in self.containers() if each["State"]["Running"]}

    def answer(
        self, path: str, body: dict[str, str] | None = None, token: str = ""
    ) -> tuple[int, str]:
        """The API's answer at its port of the machine."""
        url = f"http://127.0.0.1:{self.settings['API_PORT']}{path}"
        return answer_of(url, body, token, PATIENCE)

    def is_ready(self) -> bool:
        """Whether the API says that it is."""
        try:
            return self.answer("/health/ready")[0] == 200
        except OSError:
            return False

    def is_connected(self, role: str) -> bool:
        """Whether `worker` or `beat` finds itself at Redis."""
        check = ["python", "-m", "kit.commands.alive", role]
        return self.outcome("exec", "-T", f"celery-{role}", *check).returncode == 0

    def log(self) -> str:
        """What all containers have written."""
        return self.compose("logs", "--no-color")

    def wait_until_ready(self) -> None:
        """Wait for the API, and for the worker's connection to Redis."""
        wait_until(self.is_ready, "the API is ready", log=self.log)
        for each in ("worker", "beat"):
            wait_until(partial(self.is_connected, each), f"{each} is connected", log=self.log)


@pytest.fixture(scope="module")
def machine(engine: Engine, image: str) -> Iterator[Machine]:
    """A machine that has the image under its name; these tests are in its network."""
    archive = engine.folder / "image.tar"
    options = ["--quiet", "--format=docker-archive", f"--output={archive}"]
    engine.run("podman", "save", *options, image)
    with docker_machine() as machine:
        machine.run("docker", "load", "--quiet", f"--input={archive}")
        archive.unlink()
        machine.run("docker", "tag", f"localhost/{image}", "one")
        machine.run("docker", "tag", "one", "next")
        with network_of(machine.first):
            yield machine


@pytest.fixture(scope="module")
def composition(machine: Machine, image_project: Path) -> Iterator[Composition]:
    """The service, as `make up` has started it in a clean folder."""
    with (
        open_folder() as folder,
        installed_postgres(folder / "postgres", ADDRESS) as database,
        installed_redis(folder / "redis", ADDRESS) as redis,
    ):
        settings = {
            **EXTENSIONS_SETTINGS,
            **database,
            **redis,
            "POSTGRES_SSLMODE": "disable",
            "ALLOW_UNSAFE": "redis-without-tls,database-without-tls",
            "SECRET_KEY": secrets.token_urlsafe(32),
            "CORS_ORIGINS": "none",
            "FLOWER_PASSWORD": secrets.token_urlsafe(32),
            "ALLOWED_HOSTS": f"{NAME},127.0.0.1",
            "API_DOCS": "true",
            "API_DRAIN_SECONDS": "3",
            "API_INSTANCES": "2",
            "API_RATE_LIMIT": "0",
            "API_PORT": str(free_port()),
            "API_2_PORT": str(free_port()),
            "FLOWER_PORT": str(free_port()),
            "CELERY_WORKERS": "2",
            "REDIS_CONNECTION_LIMIT": "20",
            "CONTAINER_MEMORY": "400m",
        }
        shutil.copytree(image_project, folder / "project", symlinks=True)
        composition = Composition(machine, folder / "project", settings)
        done = composition.make("up")
        try:
            assert done.returncode == 0, f"{done.stdout}{done.stderr}"
            composition.wait_until_ready()
            yield composition
        finally:
            composition.outcome("down", "--timeout=2")


@pytest.fixture(scope="module")
def operated(composition: Composition) -> dict[str, "subprocess.CompletedProcess[str]"]:
    """How each target of make that operates a service has ended with `in=compose`."""

    def operate(target: str) -> "subprocess.CompletedProcess[str]":
        return composition.make(*target.split(), "in=compose")

    with ThreadPoolExecutor(3) as pool:
        return dict(zip(OPERATIONS, pool.map(operate, OPERATIONS), strict=True))


@pytest.fixture(scope="module")
def token(operated: dict[str, "subprocess.CompletedProcess[str]"]) -> str:
    """An API token."""
    return operated["token name=tests"].stdout.split()[-1]


def run_task(composition: Composition, token: str) -> None:
    """Send a task over the API, and wait until it has succeeded."""
    status, sent = composition.answer("/api/naps/0", {}, token)
    assert status == 200, sent

    def is_done() -> bool:
        answer = composition.answer(f"/api/tasks/{json.loads(sent)}", token=token)[1]
        return bool(json.loads(answer)["state"] == "SUCCESS")

    wait_until(is_done, "a task has run", log=composition.log)


class TestUp:
    def test_the_migration_ends_before_anything_else_starts(self, composition: Composition) -> None:
        [migration] = composition.containers("migrate")
        others = composition.containers(*SERVICES)
        assert len(others) == 5
        assert (migration["State"]["Status"], migration["State"]["ExitCode"]) == ("exited", 0)
        for each in others:
            assert each["State"]["StartedAt"] > migration["State"]["FinishedAt"]
            assert each["State"]["Running"]

    def test_a_task_sent_over_the_api_is_worked_off(
        self, composition: Composition, token: str
    ) -> None:
        assert composition.answer("/api/naps/0")[0] == 401
        run_task(composition, token)

    def test_ports_are_those_of_the_settings_and_this_machine_s_alone(
        self, composition: Composition
    ) -> None:
        flower = int(composition.settings["FLOWER_PORT"])
        assert answer_of(f"http://127.0.0.1:{flower}/healthcheck")[0] == 200
        for port in (flower, int(composition.settings["API_PORT"])):
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection((ADDRESS, port), timeout=5)

    def test_limits_arrive_in_the_containers(self, composition: Composition) -> None:
        for each in composition.containers():
            host = each["HostConfig"]
            rotated = {"max-size": "10m", "max-file": "5"}
            assert host["LogConfig"] == {"Type": "json-file", "Config": rotated}
            assert host["Memory"] == 400 * 2**20
            assert (host["ReadonlyRootfs"], host["CapDrop"]) == (True, ["ALL"])
        files = "/sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes"
        for service in SERVICES:
            read = ["sh", "-c", f"cat {files} 2>/dev/null; id -u"]
            limit, user = composition.compose("exec", "-T", service, *read).split()
            assert (int(limit), user) == (400 * 2**20, "10001")

    def test_it_is_operated_where_it_runs(
        self, operated: dict[str, "subprocess.CompletedProcess[str]"]
    ) -> None:
        for target, expected in OPERATIONS.items():
            said = f"{operated[target].stderr}{operated[target].stdout}"
            assert (operated[target].returncode, expected in said) == (0, True), said

    def test_its_database_is_changed_where_it_runs(self, composition: Composition) -> None:
        for target, status, expected in CHANGES:
            done = composition.make(*target.split(), "in=compose")
            said = f"{done.stderr}{done.stdout}"
            assert (done.returncode, expected in said) == (status, True), said


class Proxy:
    """Caddy on the machine, with a certificate for the site made here."""

    def __init__(self, folder: Path, ports: dict[str, str]) -> None:
        """Make the certificate; nothing is started.

        Args:
            folder: where its files go.
            ports: those that a Caddyfile names, and those that it means here.
        """
        self.folder = folder
        self.certificate = folder / "certificate.pem"
        self._ports = ports
        made = ["openssl", "req", "-x509", "-nodes", "-days=1", f"-subj=/CN={NAME}"]
        made += ["-newkey=ec", "-pkeyopt=ec_paramgen_curve:prime256v1"]
        made += [f"-addext=subjectAltName=DNS:{NAME}", "-keyout=key.pem", "-out=certificate.pem"]
        subprocess.run(
            [part for each in made for part in each.split("=", 1 if each.startswith("-") else 0)],
            cwd=folder,
            check=True,
            capture_output=True,
        )

    def configure(self, text: str) -> None:
        """Write a Caddyfile, with the certificate and the ports of this machine."""
        for port, here in self._ports.items():
            text = text.replace(f"127.0.0.1:{port}", f"127.0.0.1:{here}")
        first, rest = text.split("\n", 1)
        assert first == f"{NAME} {{"
        lines = [first, f"\ttls {self.certificate} key.pem", rest]
        (self.folder / "Caddyfile").write_text("\n".join(lines), encoding="utf-8")

    @contextmanager
    def running(self) -> Iterator[None]:
        """Caddy, under way."""
        command = [installed_program("caddy", "caddy"), "run"]
        with (self.folder / "log").open("w") as log:
            process = subprocess.Popen(
                [*with_us("TERM"), *command], cwd=self.folder, env=self._environment, stderr=log
            )
        try:
            wait_until(accepts, "Caddy listens", log=(self.folder / "log").read_text)
            yield
        finally:
            process.terminate()
            process.wait(30)

    def reload(self) -> None:
        """Have it read its Caddyfile."""
        command = [installed_program("caddy", "caddy"), "reload"]
        subprocess.run(
            command, cwd=self.folder, env=self._environment, check=True, capture_output=True
        )

    @property
    def _environment(self) -> dict[str, str]:
        return {"HOME": str(self.folder), "PATH": "/usr/bin:/bin"}


def accepts() -> bool:
    """Whether something listens at the port of HTTPS."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", 443)) == 0


@pytest.fixture(scope="module")
def proxy(composition: Composition, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """Caddy, with the Caddyfile of docs/deploy/server.md."""
    settings = composition.settings
    ports = {"8000": settings["API_PORT"], "8001": settings["API_2_PORT"]}
    proxy = Proxy(tmp_path_factory.mktemp("proxy"), ports)
    proxy.configure(CADDYFILE.read_text(encoding="utf-8"))
    with proxy.running():
        yield proxy


@pytest.fixture(scope="module")
def browser(proxy: Proxy) -> Iterator[Browser]:  # noqa: ARG001
    """Chromium, which finds the site on this machine and nothing else."""
    rules = f"MAP {NAME} 127.0.0.1, MAP * ~NOTFOUND"
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=installed_program("chromium", "chromium"),
            args=["--no-sandbox", f"--host-resolver-rules={rules}"],
        )
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page of a browser that accepts the certificate."""
    with browser.new_context(ignore_https_errors=True) as context, context.new_page() as page:
        yield page


class TestBehindAProxy:
    @pytest.mark.parametrize(
        ("path", "status", "text"),
        [("/", 200, "ready"), ("/nowhere", 404, "404"), ("/admin/", 200, "Login")],
    )
    def test_a_page_loads_all_that_it_names_over_https(
        self, page: Page, path: str, status: int, text: str
    ) -> None:
        statuses: Counter[int] = Counter()
        page.on("response", lambda answer: statuses.update([answer.status]))
        watched = Watched(page)
        answer = page.goto(f"http://{NAME}{path}", wait_until="load")
        page.get_by_text(text).first.wait_for()
        assert answer
        assert answer.status == status
        assert page.url.startswith(f"{SITE}/")
        assert page.evaluate("document.styleSheets.length") >= 1
        assert {each for each in statuses if each >= 400} == {status} - {200}
        assert watched.hosts == {NAME}
        assert watched.complaints == []

    def test_the_api_s_documentation_is_drawn(self, page: Page) -> None:
        watched = Watched(page)
        page.goto(f"{SITE}/scalar")
        page.get_by_text("Tasks").first.wait_for()
        assert watched.hosts == {NAME}
        # Zod, a library of its script, asks whether it may compile text, and does without.
        assert [each for each in watched.complaints if "'script-src' was not" not in each] == []

    def test_an_administrator_logs_in(
        self, page: Page, operated: dict[str, "subprocess.CompletedProcess[str]"]
    ) -> None:
        watched = Watched(page)
        addresses: list[str] = []
        page.on("request", lambda request: addresses.append(request.url))
        page.goto(f"{SITE}/admin/")
        page.fill("#username", "ada")
        page.fill("#password", operated["admin-password username=ada"].stdout.split()[-1])
        page.click("[type=submit]")
        page.wait_for_url(f"{SITE}/admin/")
        page.get_by_text("Audit").first.wait_for()
        assert [each for each in addresses if not each.startswith(f"{SITE}/")] == []
        cookies = page.context.cookies()
        assert {each["name"] for each in cookies} == {"admin_device", "admin_session"}
        assert all(each["secure"] and each["httpOnly"] for each in cookies)
        assert watched.complaints == []


@pytest.fixture(scope="module")
def two_apis(composition: Composition, proxy: Proxy) -> None:
    """Two APIs behind the proxy, by the files of docs/stack/deployment.md."""
    [override] = re.findall(r"```yaml\n(services:\n  api:.+?)```", DEPLOYMENT, re.DOTALL)
    (composition.folder / "docker-compose.override.yml").write_text(override, encoding="utf-8")
    composition.compose("up", "--detach", "--wait", "--no-deps", "api", "api-2")
    [text] = re.findall(r"```caddyfile\n(.+?)```", DEPLOYMENT, re.DOTALL)
    proxy.configure(text)
    proxy.reload()


@pytest.fixture
def callers(proxy: Proxy, token: str, two_apis: None) -> Iterator[None]:  # noqa: ARG001
    """Requests that arrive meanwhile, none of which may fail."""
    with Callers(NAME, proxy.certificate, token, body=b"{}") as callers:
        yield
    print(callers.answers)
    assert callers.answers[200] > 100
    assert callers.answers.keys() == {200}


class TestRelease:
    """By the commands of docs/stack/deployment.md."""

    @pytest.mark.usefixtures("callers")
    def test_one_that_migrates_and_never_gets_ready_is_rolled_back(
        self, composition: Composition
    ) -> None:
        [before] = composition.containers("api-2")
        main = (composition.folder / "app" / "main.py").read_text(encoding="utf-8")
        place = "    app.include_router(health_router)\n"
        assert place in main
        unready = main.replace(place, NEVER_READY + place)
        migration = MIGRATION.format(statement="CREATE TABLE next ()")
        composition.build("unready", {MIGRATION_FILE: migration, "app/main.py": unready})
        impatient = RELEASE.replace("--wait-timeout 120", "--wait-timeout 12")
        assert composition.release("unready", impatient).returncode != 0
        [api] = composition.containers("api")
        assert (api["State"]["Running"], api["State"]["Health"]["Status"]) == (True, "starting")
        [after] = composition.containers("api-2")
        assert (after["Id"], after["State"]["Health"]["Status"]) == (before["Id"], "healthy")
        done = composition.release("unready", BACK)
        assert done.returncode == 0, f"{done.stdout}{done.stderr}"
        assert "the database is ahead of this code: it has next" in done.stdout + done.stderr

    def test_all_get_healthy(self, composition: Composition) -> None:
        def health() -> dict[str, Any]:
            containers = composition.containers(*SERVICES, "api-2")
            return {each["Name"]: each["State"]["Health"] for each in containers}

        def are_healthy() -> bool:
            return {each["Status"] for each in health().values()} == {"healthy"}

        # The first check of a worker is after a minute, the second after another.
        wait_until(are_healthy, "all are healthy", lambda: json.dumps(health(), indent=1), 300)

    @pytest.mark.usefixtures("callers")
    def test_one_that_gets_ready_replaces_each(self, composition: Composition) -> None:
        migration = MIGRATION.format(statement="CREATE TABLE next ()")
        composition.build("two", {MIGRATION_FILE: migration})
        done = composition.release("two")
        assert done.returncode == 0, f"{done.stdout}{done.stderr}"
        shown = ["image", "inspect", "--format={{.Id}}", "two"]
        image = composition.machine.run("docker", *shown).strip()
        assert {each["Image"] for each in composition.containers()} == {image}


class TestLife:
    def test_a_killed_process_comes_back(self, composition: Composition, token: str) -> None:
        for each in composition.ids():
            composition.machine.run("docker", "exec", each, "sh", "-c", "kill -9 -1")

        def have_come_back() -> bool:
            containers = composition.containers(*SERVICES, "api-2")
            return all(each["RestartCount"] and each["State"]["Running"] for each in containers)

        wait_until(have_come_back, "all run again", log=composition.log)
        composition.wait_until_ready()
        run_task(composition, token)

    def test_more_workers_than_the_plan_allows_replace_nothing(
        self, composition: Composition
    ) -> None:
        before = composition.ids()
        composition.configure(CELERY_WORKERS="3")
        done = composition.make("up")
        composition.configure()
        assert done.returncode != 0
        [line] = [each for each in done.stderr.splitlines() if "3 worker x 4" in each]
        assert "Run fewer processes" in line
        assert composition.ids() == before

    def test_a_worker_that_nobody_declared_finds_no_room(self, composition: Composition) -> None:
        scale = ["up", "--detach", "--no-deps", "--scale"]
        composition.compose(*scale, "celery-worker=3", "celery-worker")
        refusal = "error: with this worker, the processes that are connected to Redis may hold more"
        wait_until(lambda: refusal in composition.log(), "one is refused", log=composition.log)
        composition.compose(*scale, "celery-worker=2", "celery-worker")

    def test_a_migration_that_fails_leaves_what_runs(self, composition: Composition) -> None:
        broken = MIGRATION.replace('"next"', '"broken"').replace('= ("service",)', "= None")
        broken = broken.replace("down_revision = None", 'down_revision = "next"')
        files = {
            MIGRATION_FILE: MIGRATION.format(statement="CREATE TABLE next ()"),
            "alembic/versions/broken.py": broken.format(statement="SELECT * FROM nowhere"),
        }
        composition.build("broken", files)
        composition.machine.run("docker", "tag", "broken", "next")
        before = composition.ids()
        done = composition.make("up")
        assert done.returncode != 0
        assert 'FAILED: relation "nowhere" does not exist' in done.stdout + done.stderr
        assert composition.ids() == before
        assert composition.is_ready()


class TestEnd:
    def test_each_ends_by_itself_and_nothing_stays(self, composition: Composition) -> None:
        composition.compose("stop")
        containers = composition.containers(*SERVICES, "api-2")
        assert len(containers) == 6
        for each in containers:
            # Uvicorn ends by the signal once all is done; 137 is of what had to be killed.
            assert each["State"]["ExitCode"] in {0, 143}, each["Name"]
        assert composition.make("down").returncode == 0
        assert composition.machine.run("docker", "ps", "--all", "--quiet") == ""

    def test_nothing_starts_where_the_first_migration_fails(self, composition: Composition) -> None:
        done = composition.outcome("up", "--detach")
        assert done.returncode != 0
        last = done.stderr.strip().splitlines()[-1]
        assert last == 'service "migrate" didn\'t complete successfully: exit 255'
        states = {each["State"]["Status"] for each in composition.containers(*SERVICES)}
        assert states == {"created"}
