"""The image, built from a rendered service's Dockerfile and run as in production.

Real containers: each process is the first one of its own, may do nothing but run, and can write
nowhere but to /tmp. `tests/containers.py` says how, and what stands for the base image.
"""

import json
import os
import re
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.built_image import EXTENSIONS_SETTINGS, OURS
from tests.containers import BASE, PATIENCE, Engine
from tests.installed_servers import free_port, installed_postgres, installed_redis
from tests.repositories import REPOSITORY
from tests.service import answer_of, open_folder

pytestmark = [pytest.mark.full, pytest.mark.xdist_group("image")]

RULES = REPOSITORY / "template" / "kit" / "kit.mk"
DEVELOPMENT = (REPOSITORY / "docs" / "stack" / "development.md").read_text(encoding="utf-8")

EMPTY_LAYERS = {"sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"}
"""An archive of nothing, as an instruction without files adds one."""

MOST_BYTES = [16_000_000, 220_000_000, 2_300_000, 3_500_000]
"""Of the layers, with all extensions: Python's library, dependencies, code, that compiled."""

NAPS = ["2", "600", "in-a-thread/2", "in-a-thread/600"]
"""Requests that are under way when the service is to end."""

CELERY = ["celery", "--quiet", "--app", "app.core.celery:celery_app"]
COMMANDS = {
    "api": [],
    "worker": [*CELERY, "worker", "--pool", "solo", "--concurrency", "1", "--task-events"],
    "beat": [*CELERY, "beat"],
    "flower": [*CELERY, "flower", "--conf=flowerconfig.py"],
}
OPERATIONS = {"token name=tests": "It will not be shown again", "doctor": "0 problems"}
"""Targets of make, and a part of what each says; all are run in tests/test_compose.py."""

SCANNER = """#!/usr/local/bin/python
# Stands for Grype, which no registry gives here: Grype's options, its file of what is accepted, its
# statuses, and of its knowledge one vulnerability that is made up.
import argparse, json, os, re, sys, tarfile

parser = argparse.ArgumentParser(allow_abbrev=False)
parser.add_argument("image", type=lambda given: tarfile.open(given.removeprefix("docker-archive:")))
parser.add_argument("--only-fixed", action="store_true", required=True)
parser.add_argument("--by-cve", action="store_true")
parser.add_argument("--fail-on", choices=["negligible", "low", "medium", "high", "critical"])
given = parser.parse_args()
[manifest] = json.load(given.image.extractfile("manifest.json"))
layers = [tarfile.open(fileobj=given.image.extractfile(each)) for each in manifest["Layers"]]
found = [name for each in layers for name in each.getnames() if "/fastapi-" in name]
assert found, "no FastAPI in the image"
print("sees", sorted(os.listdir(".")))
print("may write", os.access(".", os.W_OK))
listed = open(".grype.yaml").read() if os.path.exists(".grype.yaml") else ""
if "CVE-2026-0001" not in re.findall(r"^  - vulnerability: (.+)", listed, re.MULTILINE):
    print("fastapi  CVE-2026-0001  High")
    sys.exit(2)
"""

FLOWER_CHECK = """
import os, urllib.request
urllib.request.urlopen(f"http://127.0.0.1:{os.environ['FLOWER_PORT']}/healthcheck", timeout=3)
"""
HEALTH_CHECKS: dict[str, list[str]] = {
    "api": [],
    "worker": ["python", "-m", "kit.commands.alive", "worker"],
    "beat": ["python", "-m", "kit.commands.alive", "beat"],
    "flower": ["python", "-c", FLOWER_CHECK],
}
"""The command of each; without one that of the image."""


@pytest.fixture(scope="module")
def files(engine: Engine, image: str) -> Iterator[Path]:
    """The files of the image."""
    with engine.mounted(image) as folder:
        yield folder


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, str]]:
    """Settings for production, with servers that they name."""
    with (
        open_folder() as folder,
        installed_postgres(folder / "postgres") as database,
        installed_redis(folder / "redis") as redis,
    ):
        yield {
            **EXTENSIONS_SETTINGS,
            **database,
            **redis,
            "SECRET_KEY": secrets.token_urlsafe(32),
            "CORS_ORIGINS": "none",
            "FLOWER_PASSWORD": secrets.token_urlsafe(32),
            "API_PORT": str(free_port()),
            "FLOWER_PORT": str(free_port()),
        }


@dataclass
class Life:
    """What was seen of a deployment, from the migration to the end."""

    answers: dict[str, tuple[int, str]] = field(default_factory=dict)
    completed_task: bool = False
    operations: dict[str, tuple[int, str]] = field(default_factory=dict)
    seconds_to_end: dict[str, float] = field(default_factory=dict)
    slowness: float = 1.0
    statuses: dict[str, int] = field(default_factory=dict)
    logs: dict[str, str] = field(default_factory=dict)


class Deployment:
    """Containers of the image as the compose file has them, but for `init`."""

    def __init__(self, engine: Engine, image: str, settings: dict[str, str]) -> None:
        """Prepare; nothing is started."""
        self.engine = engine
        self.settings = settings
        closed = ["--read-only", "--read-only-tmpfs=false", "--tmpfs=/tmp", "--cap-drop=all"]
        given = [f"--env={name}={value}" for name, value in settings.items()]
        self.options = [*closed, "--security-opt=no-new-privileges", *given]
        self.image = image

    def outcome(
        self, *command: str, options: list[str] | None = None
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command in a container of its own to its end, however that is."""
        return self.engine.outcome(
            "podman", "run", "--rm", *self.options, *(options or []), self.image, *command
        )

    def wait_until_healthy(self, name: str, check: list[str]) -> None:
        """Run a health check until it passes; without a check that of the image."""
        command = ["exec", name, *check] if check else ["healthcheck", "run", name]

        def is_healthy() -> bool:
            return self.engine.outcome("podman", *command).returncode == 0

        wait_until(is_healthy, f"{name} is healthy", log=lambda: self.log(name))

    def log(self, name: str) -> str:
        """What a container has written."""
        done = self.engine.outcome("podman", "logs", name)
        return f"{done.stderr}{done.stdout}"

    def start(self, name: str, *command: str, options: list[str] | None = None) -> None:
        """Start a container."""
        given = [f"--name={name}", "--detach", *self.options, *(options or [])]
        self.engine.run("podman", "run", *given, self.image, *command)

    def answer(
        self, path: str, body: dict[str, str] | None = None, token: str = ""
    ) -> tuple[int, str]:
        """The API's answer."""
        url = f"http://127.0.0.1:{self.settings['API_PORT']}{path}"
        return answer_of(url, body, token, PATIENCE)


def wait_until(
    condition: Callable[[], bool],
    what: str,
    log: Callable[[], str] = lambda: "",
    seconds: float = PATIENCE,
) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"in vain: {what}\n{log()}"
        time.sleep(0.2)


def slowness() -> float:
    """How many times longer a computation takes than on a machine that does nothing else."""
    started, until = time.monotonic(), time.thread_time() + 0.5
    while time.thread_time() < until:
        pass
    return max(1.0, (time.monotonic() - started) / 0.5)


def without_engine(log: str) -> list[str]:
    """The lines that a container wrote, without those of the engine."""
    return [line for line in log.splitlines() if "systemd connection" not in line and line.strip()]


@pytest.fixture(scope="module")
def deployment(engine: Engine, image: str, servers: dict[str, str]) -> Deployment:
    return Deployment(engine, image, servers)


@pytest.fixture(scope="module")
def life(deployment: Deployment, image_project: Path) -> Life:
    """What is seen of a deployment from its migration to its end, with work under way then."""
    life = Life()
    migration = deployment.outcome("alembic", "-x", "leave-ahead", "upgrade", "heads")
    assert migration.returncode == 0, migration.stderr
    life.logs["migrate"] = f"{migration.stderr}{migration.stdout}"
    for name, command in COMMANDS.items():
        deployment.start(name, *command)
    for name, check in HEALTH_CHECKS.items():
        deployment.wait_until_healthy(name, check)

    def operate(target: str) -> None:
        # As with in=compose, but in a container that runs.
        command = ["make", "--no-print-directory", *target.split(), "in=podman exec api"]
        done = deployment.engine.outcome(*command, folder=image_project)
        life.operations[target] = (done.returncode, f"{done.stderr}{done.stdout}")

    for target in OPERATIONS:
        operate(target)
    status, made = life.operations["token name=tests"]
    assert status == 0, made
    token = made.split()[-1]
    life.answers["without a token"] = deployment.answer("/api/naps/0")

    def is_done(task: str) -> bool:
        answer = deployment.answer(f"/api/tasks/{task}", token=token)[1]
        return bool(json.loads(answer)["state"] == "SUCCESS")

    task = json.loads(deployment.answer("/api/naps/0", {}, token)[1])
    wait_until(lambda: is_done(task), "a task has run")
    end(deployment, life, token)
    return life


def end(deployment: Deployment, life: Life, token: str) -> None:
    """Ask all to end while they work: what ends in time is completed, what does not is cut off."""
    engine = deployment.engine

    def ask(nap: str) -> None:
        life.answers[nap] = deployment.answer(f"/api/naps/{nap}", token=token)

    threads = [threading.Thread(target=ask, args=(nap,)) for nap in NAPS]
    for thread in threads:
        thread.start()
    task = json.loads(deployment.answer("/api/naps/2", {}, token)[1])
    wait_until(lambda: f"{task}] received" in deployment.log("worker"), "a task is under way")
    begun = str(len(NAPS))
    wait_until(lambda: deployment.answer("/api/naps", token=token)[1] == begun, "all have begun")
    asked = time.time()
    engine.run("podman", "kill", "--signal=TERM", *COMMANDS)
    life.slowness = slowness()
    engine.run("podman", "wait", *COMMANDS)
    for thread in threads:
        thread.join()
    for name in COMMANDS:
        life.logs[name] = deployment.log(name)
        form = "--format={{.State.ExitCode}} {{.State.FinishedAt.Unix}}"
        status, ended = map(int, engine.run("podman", "inspect", form, name).split())
        life.statuses[name], life.seconds_to_end[name] = status, ended - asked
        engine.run("podman", "rm", name)
    life.completed_task = f"{task}] succeeded" in life.logs["worker"]


class TestContents:
    """It holds what runs in production, and nothing else."""

    def test_no_tests_no_secrets_no_tools(self, files: Path) -> None:
        service = files / "srv" / "service"
        own = [path for path in service.rglob("*") if ".venv" not in path.parts]
        names = {path.name for path in own}
        assert {"app", "kit", "alembic", "pyproject.toml"} <= names
        assert not names & {"tests", ".env", ".git", "devservices", "testing", "docs", "Makefile"}
        programs = {path.name for path in (service / ".venv" / "bin").iterdir()}
        assert {"alembic", "celery", "uvicorn"} <= programs
        assert not programs & {"pytest", "ruff", "mypy", "pre-commit", "pip", "uv"}
        everywhere = {path.name for path in (files / "usr").glob("**/bin/*")}
        assert "python3" in everywhere
        assert not everywhere & {"gcc", "cc", "make", "ld", "uv", "git"}

    def test_its_user_may_write_nothing(self, engine: Engine, image: str, files: Path) -> None:
        config = engine.inspect(image)["Config"]
        assert isinstance(config, dict)
        assert config["User"] == "10001"
        for path in (files / "srv").rglob("*"):
            state = path.lstat()
            assert state.st_uid != 10001, path
            if not path.is_symlink() and path.name != ".lock":  # uv's, which is empty
                assert not state.st_mode & 0o022, path

    def test_it_adds_little_to_its_base(self, engine: Engine, image: str) -> None:
        """docs/stack/deployment.md has a table of the layers."""
        sizes = [size for _, size in layers_of(engine, image)]
        print(sizes)
        for size, most in zip(sizes, MOST_BYTES, strict=True):
            assert size < most

    def test_a_changed_line_rebuilds_the_code_alone_and_the_same_otherwise(
        self, engine: Engine, image: str, image_project: Path, files: Path
    ) -> None:
        changed = image_project / "app" / "main.py"
        text = changed.read_text(encoding="utf-8")
        changed.write_text(f"{text}# A line.\n", encoding="utf-8")
        try:
            engine.build(image_project, "changed")
        finally:
            changed.write_text(text, encoding="utf-8")
        before, after = layers_of(engine, image), layers_of(engine, "changed")
        assert [one == other for one, other in zip(before, after, strict=True)] == [
            True,
            True,
            False,
            False,
        ]
        with engine.mounted("changed") as other:
            differing = {
                str(path.relative_to(files / "srv" / "service"))
                for path in (files / "srv" / "service").rglob("*")
                if ".venv" not in path.parts and path.is_file()
                if path.read_bytes() != (other / path.relative_to(files)).read_bytes()
            }
        tag = sys.implementation.cache_tag
        assert differing == {"app/main.py", f"app/__pycache__/main.{tag}.pyc"}


class TestAudit:
    """`make audit-image`, with stand-ins for Docker, the scanner and, being quick, the image."""

    @pytest.fixture
    def audited(self, engine: Engine, tmp_path: Path) -> Path:
        """A folder with the target, an image to build, and a Docker."""
        (tmp_path / "scanner").mkdir()
        (tmp_path / "scanner" / "grype").write_text(SCANNER, encoding="utf-8")
        (tmp_path / "scanner" / "grype").chmod(0o755)
        steps = f'FROM {BASE}\nCOPY grype /grype\nENTRYPOINT ["/grype"]\n'
        (tmp_path / "scanner" / "Dockerfile").write_text(steps, encoding="utf-8")
        engine.build(tmp_path / "scanner", "scanner")
        (tmp_path / "bin").mkdir()
        engine.write_docker(tmp_path / "bin" / "docker", "localhost/scanner")
        project = tmp_path / "a project"
        (project / "fastapi-0.1.dist-info").mkdir(parents=True)
        (project / "Makefile").write_text(f"include {RULES}\n", encoding="utf-8")
        (project / ".env").write_text("SECRET_KEY=not-for-the-scanner\n", encoding="utf-8")
        (project / "Dockerfile").write_text("FROM scratch\nCOPY . /srv\n", encoding="utf-8")
        return project

    def test_a_vulnerability_fails_it_unless_accepted_until_a_day_to_come(
        self, audited: Path
    ) -> None:
        today = datetime.now(UTC).date()
        found, accepted = audit(audited), audit(audited, str(today))
        assert (found.returncode, "CVE-2026-0001  High" in found.stdout) == (2, True), found
        assert "sees ['image.tar']\nmay write False" in found.stdout
        assert (accepted.returncode, "sees ['.grype.yaml', " in accepted.stdout) == (0, True)
        assert list((audited / ".tools").iterdir()) == []
        for until in (str(today - timedelta(1)), "31.12.2099", "upstream"):
            refused = audit(audited, until)
            assert refused.returncode == 2
            assert f"is accepted until {until}: expected is a day to come" in refused.stderr
            assert "docker" not in refused.stdout

    def test_the_scanner_is_one_content_whatever_its_tag_becomes(self) -> None:
        rules = RULES.read_text(encoding="utf-8")
        assert re.search(r"^scanner := \S+:v[\d.]+@sha256:[0-9a-f]{64}$", rules, re.MULTILINE)


def audit(project: Path, until: str = "") -> "subprocess.CompletedProcess[str]":
    """Run `make audit-image`, with a vulnerability accepted until a day as the docs show it."""
    if until:
        [example] = re.findall(r"```yaml\n(ignore:\n.+?)```", DEVELOPMENT, re.DOTALL)
        text = re.sub(
            r"CVE-[\d-]+", "CVE-2026-0001", re.sub(r"until [\d-]+", f"until {until}", example)
        )
        (project / ".grype.yaml").write_text(text, encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if name not in OURS}
    return subprocess.run(
        ["make", "audit-image"],
        cwd=project,
        env=environment | {"PATH": f"{project.with_name('bin')}:{os.environ['PATH']}"},
        check=False,
        capture_output=True,
        text=True,
    )


def layers_of(engine: Engine, image: str) -> list[tuple[str, int]]:
    """Contents' hash and bytes of each layer that the Dockerfile adds to its base."""
    told = json.loads(engine.run("podman", "history", "--format=json", image))
    sizes = [each["size"] for each in reversed(told) if each["size"]]
    system = engine.inspect(image)["RootFS"]
    assert isinstance(system, dict)
    hashes = [each for each in system["Layers"] if each not in EMPTY_LAYERS]
    return list(zip(hashes, sizes, strict=True))[1:]


class TestLife:
    """It starts, works and ends as a platform expects."""

    def test_missing_settings_are_reported_at_once(self, engine: Engine, image: str) -> None:
        done = Deployment(engine, image, {}).outcome()
        assert done.returncode == 1
        for name in ("SECRET_KEY", "DATABASE_URL", "REDIS_URL", "CORS_ORIGINS"):
            assert name in done.stderr
        for name in EXTENSIONS_SETTINGS:
            if name not in ("MAIL_FROM", "MAIL_SMTP_TLS"):
                assert name in done.stderr
        assert "Traceback" not in done.stderr

    def test_it_is_operated_where_it_runs(self, life: Life, image_project: Path) -> None:
        for target, expected in OPERATIONS.items():
            status, said = life.operations[target]
            assert (status, expected in said) == (0, True), f"{target}: {status}\n{said}"
        assert not (image_project / ".venv").exists()

    def test_each_ends_in_time_whatever_is_under_way(self, life: Life) -> None:
        assert life.statuses == dict.fromkeys(COMMANDS, 0)
        assert max(life.seconds_to_end.values()) < 10 * life.slowness
        assert life.completed_task

    def test_a_request_is_answered_or_told_to_come_again(self, life: Life) -> None:
        assert life.answers["2"] == life.answers["in-a-thread/2"] == (200, '"slept"')
        for nap in ("600", "in-a-thread/600"):
            status, problem = life.answers[nap]
            assert (status, json.loads(problem)["title"]) == (503, "Service Unavailable")
        assert life.answers["without a token"][0] == 401
        assert "Traceback" not in life.logs["api"]

    @pytest.mark.parametrize("name", ["migrate", *COMMANDS])
    def test_all_lines_of_its_log_are_json(self, life: Life, name: str) -> None:
        # Without the engine's own, that no systemd runs its health checks here.
        lines = [line for line in life.logs[name].splitlines() if "systemd connection" not in line]
        assert lines
        for line in lines:
            assert {"timestamp", "level", "message"} <= json.loads(line).keys(), line

    def test_nothing_is_compiled_when_it_starts(self, deployment: Deployment, life: Life) -> None:
        """On a read-only file system it would be compiled anew each time."""
        assert life.logs["migrate"]
        done = deployment.outcome("python", "-v", "-m", "kit.commands.serve", "--check")
        assert done.returncode == 0, done.stderr
        compiled = re.findall(r"^# code object from '?(\S+?)'?$", done.stderr, re.MULTILINE)
        assert len(compiled) > 500
        assert [path for path in compiled if path.endswith(".py")] == []

    def test_health_checks_find_the_api_where_it_listens(
        self, deployment: Deployment, life: Life
    ) -> None:
        """All addresses of IPv6; and Kubernetes describes a Service called `api`."""
        assert life.logs["migrate"]
        there = ["API_HOST=::", "API_PORT=tcp://10.0.0.11:80", f"PORT={free_port()}"]
        deployment.start("elsewhere", options=[f"--env={each}" for each in there])
        try:
            deployment.wait_until_healthy("elsewhere", [])
        finally:
            deployment.engine.run("podman", "rm", "--force", "--time=10", "elsewhere")
