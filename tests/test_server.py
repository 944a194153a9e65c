"""docs/deploy/server.md, followed on a fresh Debian under a running systemd.

One server, `tests/debian_server.py`, which is set up once, released to, loaded, hurt and ended, in
the order of the tests here. Its certificate comes from an authority as Let's Encrypt is one.
"""

import json
import re
import secrets
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.built_image import NAPS_ROUTE, NAPS_TASK
from tests.callers import Callers
from tests.conftest import copy_template
from tests.containers import PATIENCE, network_of
from tests.debian_server import DebianServer, debian_server
from tests.installed_servers import installed_postgres, installed_program, installed_redis
from tests.releases import released_versions
from tests.repositories import REPOSITORY, commit_all, edit, git
from tests.service import open_folder
from tests.test_compose import MIGRATION, MIGRATION_FILE
from tests.test_deploy import DOCS, FILES, HIGHEST_EXPOSURE
from tests.test_image import wait_until

pytestmark = [pytest.mark.full, pytest.mark.xdist_group("server")]

PAGE = (DOCS / "deploy" / "server.md").read_text(encoding="utf-8")
NAME = "shop.example.org"
UNITS = ["service-api", "service-worker", "service-beat", "service-flower"]
ROOT_CERTIFICATE = "/etc/ssl/authority.pem"

AUTHORITY = """{
	admin off
	auto_https disable_redirects
	skip_install_trust
}
https://authority.example.org:8443 {
	tls internal
	acme_server
}
"""
BY_AUTHORITY = f"""{{
	acme_ca https://authority.example.org:8443/acme/local/directory
	acme_ca_root {ROOT_CERTIFICATE}
}}
"""


class Released(NamedTuple):
    """How a release ended."""

    name: str
    status: int
    output: str


class Site:
    """The service on the server, and its repository on the owner's machine."""

    def __init__(self, server: DebianServer, project: Path, certificate: Path) -> None:
        """Use what is set up."""
        self.server = server
        self.project = project
        self.certificate = certificate

    def release(self, command: str = "make deploy host=127.0.0.1") -> Released:
        """Commit what changed and release it."""
        commit_all(self.project, "Change")
        return self.run(command)

    def run(self, command: str) -> Released:
        """Run a command as the owner."""
        done = subprocess.run(
            ["env", f"PATH={self.server.path_of_client}", "sh", "-c", command],
            cwd=self.project,
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
        )
        print(done.stdout[-4000:])
        name = ["git", "rev-parse", "--short", "HEAD"]
        asked = subprocess.run(name, cwd=self.project, check=True, capture_output=True, text=True)
        return Released(asked.stdout.strip(), done.returncode, done.stdout)

    @property
    def current(self) -> str:
        """The release that runs, by its name."""
        return self.server.run("readlink", "/srv/service/current").strip().removeprefix("releases/")

    def processes(self) -> dict[str, int]:
        """The units' main processes, as the server numbers them; 0 is none."""
        return {unit: int(self.server.ask(unit, "MainPID")) for unit in UNITS}

    def answer(self, path: str, token: str = "") -> tuple[int, str]:
        """What the site answers over HTTPS: the status and the text."""
        command = ["curl", "--silent", "--write-out", "\n%{http_code}"]
        command += ["--cacert", ROOT_CERTIFICATE, "--max-time", str(int(PATIENCE))]
        command += ["--header", f"Authorization: Bearer {token}"] if token else []
        said = self.server.outcome(*command, f"https://{NAME}{path}").stdout
        text, _, status = said.rpartition("\n")
        return int(status or 0), text

    def is_ready(self) -> bool:
        """Whether it says so, and all units run."""
        running = self.server.outcome("systemctl", "is-active", *UNITS).stdout.split()
        return running == ["active"] * len(UNITS) and self.answer("/health/ready")[0] == 200

    def log(self) -> str:
        """What the units have written."""
        return self.server.run("journalctl", "--unit=service-*", "--no-pager", "--lines=100")

    def in_production(self, command: str) -> "subprocess.CompletedProcess[str]":
        """Run a command of the service as the page has root do it."""
        folder = Path("/srv/service/current")
        return self.server.outcome("sh", "-c", command, folder=folder)

    @contextmanager
    def called(self, token: str) -> Iterator[Callers]:
        """Clients that call meanwhile."""
        with Callers(NAME, self.certificate, token, body=b"{}", one_in=3) as callers:
            yield callers
        print(callers.answers, f"{callers.longest:.1f} s the longest")


@pytest.fixture(scope="module")
def project(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A service with a route and a task that take their time, and with `uv.lock`."""
    project = copy_template(template, tmp_path_factory.mktemp("server") / "project")
    (project / "app" / "tasks" / "naps.py").write_text(NAPS_TASK.lstrip(), encoding="utf-8")
    (project / "app" / "api" / "naps.py").write_text(NAPS_ROUTE.lstrip(), encoding="utf-8")
    subprocess.run(["uv", "lock", "--quiet"], cwd=project, check=True)
    commit_all(project, "Start")
    return project


@pytest.fixture(scope="module")
def server(project: Path) -> Iterator[DebianServer]:
    """A server on which `setup` has run, and nothing was released."""
    with debian_server() as server:
        names = f"127.0.0.1 localhost {NAME} authority.example.org\n"
        server.write("/etc/hosts", names)
        recipe = server.files / "root" / "recipe"
        shutil.copytree(FILES / "server", recipe)
        edit(recipe / "Caddyfile", "api.example.com", NAME)
        caddyfile = (recipe / "Caddyfile").read_text()
        (recipe / "Caddyfile").write_text(BY_AUTHORITY + caddyfile)
        with authority(server):
            server.run("./setup", folder=Path("/root/recipe"))
            # The network is at hand here alone.
            shutil.copytree(project, server.files / "root" / "project", symlinks=True)
            install = "uv sync --quiet --locked --no-dev --no-python-downloads && rm -r .venv"
            server.run("sh", "-c", install, folder=Path("/root/project"))
            server.write("/etc/uv/uv.toml", "offline = true\n")
            with network_of(server.first):
                yield server


@contextmanager
def authority(server: DebianServer) -> Iterator[None]:
    """A certificate authority that speaks ACME, at the server's own address."""
    folder = server.files / "srv" / "authority"
    folder.mkdir()
    shutil.copy2(installed_program("caddy", "caddy"), folder / "caddy")
    (folder / "Caddyfile").write_text(AUTHORITY)
    root = folder / "data" / "caddy" / "pki" / "authorities" / "local" / "root.crt"
    data = "XDG_DATA_HOME=/srv/authority/data"
    with network_of(server.first), (folder / "log").open("w") as log:
        command = [*server.prefix(Path("/srv/authority")), "env", data, "./caddy", "run"]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        wait_until(root.exists, "the authority has a certificate", (folder / "log").read_text)
        server.write(ROOT_CERTIFICATE, root.read_text())
        yield
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="module")
def site(server: DebianServer, project: Path) -> Iterator[Site]:
    """The service, released once."""
    with (
        open_folder() as folder,
        installed_postgres(folder / "postgres") as database,
        installed_redis(folder / "redis") as redis,
    ):
        settings = {
            **database,
            **redis,
            "SECRET_KEY": secrets.token_urlsafe(32),
            "CORS_ORIGINS": "none",
            "FLOWER_PASSWORD": secrets.token_urlsafe(32),
            "ALLOWED_HOSTS": NAME,
            "API_RATE_LIMIT": "0",
        }
        lines = [f"{name}='{value}'\n" for name, value in settings.items()]
        server.write("/etc/service.env", "".join(lines))
        certificate = folder / "authority.pem"
        shutil.copy2(server.files / ROOT_CERTIFICATE.lstrip("/"), certificate)
        site = Site(server, project, certificate)
        released = site.release()
        assert (released.status, f"{released.name} is ready" in released.output) == (0, True)
        yield site


@pytest.fixture(scope="module")
def token(site: Site) -> str:
    """An API token."""
    environment = "set -a; . /etc/service.env; ENVIRONMENT=production"
    done = site.in_production(f"{environment} .venv/bin/python -m kit.commands.token create tests")
    assert done.returncode == 0, done.stderr
    return done.stdout.split()[-1]


class TestFirstRelease:
    def test_the_site_has_a_certificate_that_caddy_got(self, site: Site) -> None:
        assert site.answer("/health/ready")[0] == 200
        folder = "/var/lib/caddy/.local/share/caddy/certificates"
        [issuer] = site.server.run("ls", folder).split()
        assert issuer.startswith("authority.example.org-8443-acme")
        assert f"{NAME}.crt" in site.server.run("ls", f"{folder}/{issuer}/{NAME}")
        plain = ["curl", "--silent", "--head", f"http://{NAME}/"]
        assert f"Location: https://{NAME}/" in site.server.run(*plain)

    def test_the_units_hold_what_they_run(self, site: Site) -> None:
        user = site.server.run("id", "--user", "service").strip()
        for unit, process in site.processes().items():
            status = site.server.run("cat", f"/proc/{process}/status")
            found = dict(re.findall(r"^(\w+):\s+(\S+)", status, re.MULTILINE))
            assert found["Uid"] == user
            assert (found["CapBnd"], found["NoNewPrivs"]) == ("0" * 16, "1")
            assert found["Seccomp"] == "2"
            inside = ["nsenter", f"--target={process}", "--mount", "touch"]
            for folder in ("/srv/service/current", "/etc", "/usr"):
                assert "Read-only" in site.server.outcome(*inside, f"{folder}/x").stderr
            said = site.server.run("systemd-analyze", "security", "--no-pager", f"{unit}.service")
            [exposure] = re.findall(r"exposure level for \S+: ([\d.]+)", said)
            assert float(exposure) <= HIGHEST_EXPOSURE

    def test_the_journal_has_lines_of_json(self, site: Site) -> None:
        options = ["--output=cat", "_TRANSPORT=stdout", "--no-pager"]
        for unit in UNITS:
            lines = site.server.run("journalctl", f"_SYSTEMD_UNIT={unit}.service", *options)
            found = [json.loads(line) for line in lines.splitlines()]
            assert {"INFO"} <= {each["level"] for each in found} <= {"INFO", "WARNING"}, lines

    def test_the_doctor_finds_no_problem(self, site: Site) -> None:
        [command] = re.findall(r"`(ENVIRONMENT=production .+?)`", PAGE)
        done = site.in_production(command)
        assert (done.returncode, "0 problems" in done.stdout) == (0, True), done.stdout


class TestRelease:
    """While 20 to 50 requests a second arrive."""

    def test_no_request_fails_meanwhile(self, site: Site, token: str) -> None:
        before = site.current
        with site.called(token) as callers:
            time.sleep(1)
            released = site.release()
            time.sleep(1)
        assert released.status == 0
        assert site.current == released.name != before
        assert callers.answers[200] > 100
        assert callers.answers.keys() == {200}

    def test_one_that_does_not_start_is_rolled_back(self, site: Site, token: str) -> None:
        before = site.current
        main = site.project / "app" / "main.py"
        text = main.read_text(encoding="utf-8")
        main.write_text(f"{text}\nraise RuntimeError\n", encoding="utf-8")
        with site.called(token) as callers:
            [command] = re.findall(r"`(git archive HEAD \| ssh .+?)`", PAGE)
            impatient = "127.0.0.1 SERVICE_SECONDS=5 release"
            released = site.release(command.replace("HOST release", impatient))
        main.write_text(text, encoding="utf-8")
        assert released.status == 1
        assert f"not ready; back to releases/{before}, which is ready" in released.output
        assert site.current == before
        assert site.is_ready()
        assert callers.answers.keys() == {200}

    def test_what_is_not_committed_is_refused(self, site: Site) -> None:
        forgotten = site.project / "app" / "forgotten.py"
        forgotten.touch()
        refused = site.run("make deploy host=127.0.0.1")
        assert (refused.status, "?? app/forgotten.py\nerror" in refused.output) == (2, True)
        forgotten.unlink()
        lock = site.project / "uv.lock"
        text = lock.read_text(encoding="utf-8")
        lock.unlink()
        refused = site.release()
        assert (refused.status, "the last commit has no uv.lock" in refused.output) == (2, True)
        lock.write_text(text, encoding="utf-8")

    def test_a_migration_that_fails_changes_nothing(self, site: Site) -> None:
        before, processes = site.current, site.processes()
        migration = site.project / MIGRATION_FILE
        migration.write_text(MIGRATION.format(statement="SELECT * FROM nowhere").lstrip())
        released = site.release()
        migration.unlink()
        assert released.status != 0
        assert 'relation "nowhere" does not exist' in released.output
        assert (site.current, site.processes()) == (before, processes)
        assert released.name not in site.server.run("ls", "/srv/service/releases").split()


class TestLife:
    def test_a_killed_process_comes_back(self, site: Site) -> None:
        before = site.processes()
        site.server.run("kill", "-9", *map(str, before.values()))

        def have_come_back() -> bool:
            now = site.processes()
            return all(now[unit] not in {0, before[unit]} for unit in UNITS)

        wait_until(have_come_back, "all run again", site.log)
        wait_until(site.is_ready, "the site is ready", site.log)

    def test_they_end_in_time_and_what_is_under_way_is_answered(
        self, site: Site, token: str
    ) -> None:
        answers: list[tuple[int, str]] = []
        thread = threading.Thread(
            target=lambda: answers.append(site.answer("/api/naps/2", token=token))
        )
        thread.start()
        wait_until(lambda: site.answer("/api/naps", token)[1] != "0", "it has begun")
        asked = time.monotonic()
        site.server.run("systemctl", "stop", "service-api.socket", *UNITS)
        seconds = time.monotonic() - asked
        thread.join()
        assert answers == [(200, '"slept"')]
        assert seconds < 10
        results = {unit: site.server.ask(unit, "Result") for unit in UNITS}
        assert results == dict.fromkeys(UNITS, "success")
        assert set(site.processes().values()) == {0}

    def test_all_start_with_the_server(self, site: Site) -> None:
        site.server.run("systemctl", "stop", "multi-user.target")  # what it wants runs on
        assert set(site.processes().values()) == {0}
        site.server.run("systemctl", "start", "default.target")
        wait_until(site.is_ready, "the site is ready", site.log)


class TestOlderServer:
    """As the recipe of 0.11.0 set it up, where the API itself listens."""

    def test_a_release_crosses_to_the_socket(self, site: Site, tmp_path: Path) -> None:
        units = Path("/etc/systemd/system")
        site.server.run("systemctl", "disable", "--now", "service-api.socket", *UNITS)
        site.server.run("rm", str(units / "service-api.socket"))
        archive = tmp_path / "older.tar"
        recipe = f"{released_versions()['0.11.0']}:docs/deploy/files/server"
        git(REPOSITORY, "archive", "--output", str(archive), recipe)
        shutil.unpack_archive(archive, site.server.files / "root" / "older")
        self.set_up(site, "older")
        assert site.release().status == 0
        assert site.server.ask("service-api.socket", "LoadState") == "not-found"

        self.set_up(site, "recipe")
        released = site.release()

        assert released.status == 0
        assert site.current == released.name
        assert site.is_ready()
        assert site.server.ask("service-api.socket", "ActiveState") == "active"

    @staticmethod
    def set_up(site: Site, folder: str) -> None:
        """Run `setup`, but for the packages, which are there."""
        site.server.run(
            "sh",
            "-c",
            "sed -n '/^install -m 755/,$p' setup | sh -eux",
            folder=Path("/root", folder),
        )
