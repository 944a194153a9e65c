"""The deployment recipes: valid, of the compose file's processes, and within the plans."""

import configparser
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
import tomllib
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from tests.installed_servers import free_port, installed_postgres, installed_redis
from tests.repositories import REPOSITORY
from tests.service import Service

FILES = REPOSITORY / "docs" / "deploy" / "files"
UNITS = sorted((FILES / "server").glob("*.service"))
DOCS = REPOSITORY / "docs"
PROGRAMS = "celery|curl|docker|fly|gcloud|kubectl|make|psql|python3?|redis-cli|ssh|uv"
COMMAND = re.compile(rf"(?:^ *|`)((?:{PROGRAMS}) .*)", re.MULTILINE)
SECRET = re.compile(
    r"(?:SECRET\w*|PASSWORD|TOKEN|KEY|_URL)=\S|--basic[_-]auth|--broker|://\S+:\S+@|Bearer "
)
COMPOSE = REPOSITORY / "template" / "docker-compose.yml.jinja"
MIGRATE = "alembic -x leave-ahead upgrade heads"
SERVE = "python -m kit.commands.serve"
ON_A_SOCKET = " --fd 3"
BINARIES = "/srv/service/current/.venv/bin/"
HIGHEST_EXPOSURE = 2.0


class Recipe(NamedTuple):
    """What a platform's files declare."""

    commands: dict[str, str]
    environment: dict[str, str]
    instances: dict[str, int]


def server() -> Recipe:
    commands: dict[str, str] = {}
    environment: dict[str, str] = {}
    for path in UNITS:
        unit = configparser.ConfigParser(interpolation=None, strict=False)
        unit.optionxform = str  # type: ignore[assignment,method-assign]
        unit.read(path)
        name = path.stem.removeprefix("service-")
        name = f"celery-{name}" if name in {"worker", "beat"} else name
        commands[name] = (
            unit["Service"]["ExecStart"].removeprefix(BINARIES).removesuffix(ON_A_SOCKET)
        )
        environment |= dict(each.split("=") for each in unit["Service"]["Environment"].split())
    release = (FILES / "server" / "release").read_text()
    commands["migrate"] = release.split(".venv/bin/")[1].splitlines()[0]
    environment.pop("PYTHONDONTWRITEBYTECODE")  # Python's own
    return Recipe(commands, environment, {})


def fly() -> Recipe:
    file = tomllib.loads((FILES / "fly" / "fly.toml").read_text())
    commands = file["processes"] | {"migrate": file["deploy"]["release_command"]}
    return Recipe(commands, file["env"], {})


def render_com() -> Recipe:
    file = yaml.safe_load((FILES / "render" / "render.yaml").read_text())
    commands = {each["name"]: each["dockerCommand"] for each in file["services"]}
    commands["migrate"] = file["services"][0]["preDeployCommand"]
    variables = [*file["services"][0]["envVars"], *file["envVarGroups"][0]["envVars"]]
    environment = {each["key"]: each["value"] for each in variables if "key" in each}
    assert environment.pop("PORT") == environment["API_PORT"]
    # A deployment runs the old instances and the new.
    instances = {each["name"]: 2 * each["numInstances"] for each in file["services"]}
    return Recipe(commands, environment, instances)


def kubernetes() -> Recipe:
    commands, environment, instances = {}, {}, {}
    for each in manifests():
        if each["kind"] == "ConfigMap":
            environment = each["data"]
        if each["kind"] in {"Deployment", "Job"}:
            [container] = each["spec"]["template"]["spec"]["containers"]
            commands[each["metadata"]["name"]] = shlex.join(container["command"])
        if each["kind"] == "Deployment":
            surge = each["spec"]["strategy"].get("rollingUpdate", {}).get("maxSurge", 0)
            instances[each["metadata"]["name"]] = each["spec"]["replicas"] + surge
    return Recipe(commands, environment, instances)


def railway() -> Recipe:
    folder = FILES / "railway"
    files = {path.stem: tomllib.loads(path.read_text()) for path in folder.glob("*.toml")}
    commands = {name: file["deploy"]["startCommand"] for name, file in files.items()}
    [commands["migrate"]] = files["api"]["deploy"]["preDeployCommand"]
    environment = dict(line.split("=") for line in (folder / "shared.env").read_text().split())
    # A deployment runs the old instances and the new.
    instances = {name: 2 * file["deploy"]["numReplicas"] for name, file in files.items()}
    return Recipe(commands, environment, instances)


def cloud_run() -> Recipe:
    service, job = (
        yaml.safe_load((FILES / "cloud-run" / f"{name}.yaml").read_text())["spec"]["template"]
        for name in ("service", "migrate")
    )
    [api], [migrate] = service["spec"]["containers"], job["spec"]["template"]["spec"]["containers"]
    assert api["image"] == migrate["image"]
    commands = {"api": shlex.join(api["command"]), "migrate": shlex.join(migrate["command"])}
    variables = {each["name"]: each.get("value") for each in api["env"]}
    for each in migrate["env"]:
        assert each in api["env"]
    secrets = {name for name, value in variables.items() if value is None}
    assert secrets == {"SECRET_KEY", "DATABASE_URL", "REDIS_URL"}
    environment = {name: value for name, value in variables.items() if value is not None}
    most = int(service["metadata"]["annotations"]["autoscaling.knative.dev/maxScale"])
    return Recipe(commands, environment, {"api": 2 * most})


def manifests() -> list[dict[str, Any]]:
    """All documents of the Kubernetes files."""
    paths = sorted((FILES / "kubernetes").glob("*.yaml"))
    return [each for path in paths for each in yaml.safe_load_all(path.read_text())]


RECIPES = {
    "server": server,
    "fly": fly,
    "render": render_com,
    "railway": railway,
    "cloud-run": cloud_run,
    "kubernetes": kubernetes,
}
WITHOUT_WORKERS = {"cloud-run"}
recipes = pytest.mark.parametrize("platform", RECIPES)


@recipes
def test_commands_are_those_of_the_compose_file(platform: str) -> None:
    text = re.sub(r"{{.*?}}", "service", COMPOSE.read_text())
    text = re.sub(r"^{%.*$", "", text, flags=re.MULTILINE)
    services = yaml.safe_load(text)["services"]
    expected = {name: shlex.join(each.get("command", [])) for name, each in services.items()}
    expected["api"] = SERVE  # the image's own
    commands = RECIPES[platform]().commands
    assert commands == {name: expected[name] for name in commands}
    assert {"migrate", "api"} <= commands.keys()
    assert platform in WITHOUT_WORKERS or {"celery-worker", "celery-beat"} <= commands.keys()


@recipes
def test_counts_are_what_runs_at_once(platform: str) -> None:
    recipe = RECIPES[platform]()
    settings = {"api": "API_INSTANCES", "celery-worker": "CELERY_WORKERS"}
    settings["celery-beat"] = "CELERY_BEATS"
    for process, number in recipe.instances.items():
        assert int(recipe.environment[settings[process]]) == number, process


def test_pods_are_safe() -> None:
    for each in manifests():
        if each["kind"] not in {"Deployment", "Job"}:
            continue
        pod = each["spec"]["template"]
        assert pod["spec"]["enableServiceLinks"] is False
        if each["kind"] == "Deployment":
            assert pod["metadata"]["labels"] == each["spec"]["selector"]["matchLabels"]
        if each["metadata"]["name"] == "api":
            assert "preStop" in pod["spec"]["containers"][0]["lifecycle"]
        if each["metadata"]["name"] == "celery-beat":
            assert (each["spec"]["replicas"], each["spec"]["strategy"]) == (1, {"type": "Recreate"})


def test_no_command_of_the_docs_holds_a_secret() -> None:
    """Every user of a machine sees the command lines on it, and a shell keeps them."""
    found = [
        f"{path.relative_to(DOCS)}: {command}"
        for path in [*DOCS.rglob("*.md"), *DOCS.rglob("files/server/[rs]e*")]
        for command in COMMAND.findall(path.read_text(encoding="utf-8"))
        if SECRET.search(command)
    ]
    assert found == []


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze")
@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_units_are_valid_and_hardened(path: Path, tmp_path: Path) -> None:
    shutil.copy(FILES / "server" / "service-api.socket", tmp_path)
    copy = tmp_path / path.name  # with a program that is here
    copy.write_text(re.sub(rf"ExecStart={BINARIES}\w+", "ExecStart=/bin/true", path.read_text()))
    done = run("systemd-analyze", "verify", str(copy))
    assert (done.returncode, done.stderr) == (0, "")
    done = run("systemd-analyze", "security", "--offline=yes", str(copy))
    exposure = re.search(r"exposure level for \S+: ([\d.]+)", done.stdout)
    assert exposure
    assert float(exposure[1]) <= HIGHEST_EXPOSURE


def run(*command: str) -> subprocess.CompletedProcess[str]:
    """Run a command; what it printed."""
    return subprocess.run(command, check=False, capture_output=True, text=True)


SUMS = """
import json
from kit.connections import refuse_more_than_the_plan
from kit.settings import StartupError, settings
try:
    refuse_more_than_the_plan(settings)
except StartupError as error:
    print(error)
print(json.dumps(sorted(type(settings).model_fields)))
"""


@pytest.mark.xdist_group("deploy")
@recipes
def test_settings_are_known_and_within_the_plan(platform: str, service: Service) -> None:
    environment = RECIPES[platform]().environment
    refusal, known = sums(service, environment)
    assert refusal == ""
    assert environment.keys() <= known


@pytest.mark.xdist_group("deploy")
def test_more_than_the_plan_is_refused(service: Service) -> None:
    refusal, _ = sums(service, kubernetes().environment | {"CELERY_WORKERS": "7"})
    assert "7 worker x 4" in refusal
    assert "Run fewer processes" in refusal


def sums(service: Service, environment: dict[str, str]) -> tuple[str, set[str]]:
    """What the service refuses of these counts, and the names of its settings."""
    counts = {
        name: value
        for name, value in environment.items()
        if name.startswith("CELERY_") or name == "API_INSTANCES"
    }
    counts |= {"REDIS_CONNECTION_LIMIT": "30", "POSTGRES_CONNECTION_LIMIT": "15"}
    asked = Service(service.folder, service.environment | counts)
    *refusal, known = asked.run(".venv/bin/python", "-c", SUMS).splitlines()
    return "\n".join(refusal), set(json.loads(known))


@pytest.fixture(scope="module")
def secrets(service_folder: Path) -> Iterator[dict[str, str]]:
    """What an owner adds to a recipe, with the system's PostgreSQL and Redis."""
    with ExitStack() as servers:
        yield {
            **servers.enter_context(installed_postgres(service_folder / "deploy-postgres")),
            **servers.enter_context(installed_redis(service_folder / "deploy-redis")),
            "SECRET_KEY": "of the test, and long enough to be accepted",
            "CORS_ORIGINS": "none",
            "FLOWER_PASSWORD": "of the test, and long enough",
        }


@pytest.mark.full
@pytest.mark.xdist_group("deploy")
@recipes
def test_declared_commands_migrate_and_get_ready(
    platform: str, service: Service, secrets: dict[str, str]
) -> None:
    recipe = RECIPES[platform]()
    settings = recipe.environment | secrets | {"API_PORT": str(free_port())}
    started = Service(service.folder, service.environment | settings)
    binaries = str(service.folder / ".venv" / "bin") + "/"
    started.run(*shlex.split(binaries + recipe.commands["migrate"]))
    process = subprocess.Popen(
        shlex.split(binaries + recipe.commands["api"]),
        cwd=service.folder,
        env=started.environment,
    )
    try:
        url = f"http://127.0.0.1:{settings['API_PORT']}/health/ready"
        deadline = time.monotonic() + 120
        while not answers(url):
            assert time.monotonic() < deadline, "not ready"
            assert process.poll() is None, "ended by itself"
            time.sleep(0.1)
    finally:
        process.terminate()
        process.wait(30)


def answers(url: str) -> bool:
    """Whether a server answers 200 there."""
    try:
        with urllib.request.urlopen(url, timeout=5) as response:  # noqa: S310 (loopback)
            return bool(response.status == 200)
    except OSError:
        return False


class Server:
    """A folder as the server, with stand-ins for systemd, uv and the service."""

    def __init__(self, folder: Path) -> None:
        """Make the folder and the stand-ins."""
        self.folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        (folder / "root" / "releases").mkdir(parents=True)
        (folder / "env").write_text("SECRET_KEY='a b'\n")
        self.program("uv", "mkdir -p .venv/bin; cp alembic .venv/bin/alembic")
        self.program("runuser", 'shift 3; exec "$@"')
        restart = (
            f"{self.stop_command}; cd {folder}/root/current; [ -e broken ] && exit 0\n"
            f"{sys.executable} -m http.server --bind 127.0.0.1 {self.port} "
            f">/dev/null 2>&1 & echo $! >{folder}/pid"
        )
        self.program("systemctl", f"[ $1 = is-active ] && exit 0\n{restart}")

    @property
    def stop_command(self) -> str:
        return f"[ -e {self.folder}/pid ] && kill $(cat {self.folder}/pid); rm -f {self.folder}/pid"

    def program(self, name: str, text: str) -> None:
        path = self.folder / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    def release(
        self, name: str, *, migration: int = 0, broken: bool = False
    ) -> subprocess.CompletedProcess[bytes]:
        source = self.folder / "source" / name
        (source / "health").mkdir(parents=True)
        (source / "health" / "ready").write_text(name)
        (source / "alembic").write_text(
            f"#!/bin/sh\n[ \"$SECRET_KEY\" = 'a b' ] && exit {migration}\n"
        )
        (source / "alembic").chmod(0o755)
        if broken:
            (source / "broken").touch()
        tar = subprocess.run(["tar", "-c", "-C", source, "."], check=True, capture_output=True)
        environment = {
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            "SERVICE_ROOT": str(self.folder / "root"),
            "SERVICE_ENV": str(self.folder / "env"),
            "SERVICE_READY": f"http://127.0.0.1:{self.port}/health/ready",
            "SERVICE_SECONDS": "3" if broken else "30",
        }
        command = [str(FILES / "server" / "release"), name]
        return subprocess.run(
            command, input=tar.stdout, env=environment, check=False, capture_output=True
        )

    @property
    def current(self) -> str:
        return (self.folder / "root" / "current").readlink().name


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Server]:
    """A server without a release."""
    server = Server(tmp_path)
    yield server
    subprocess.run(["sh", "-c", server.stop_command], check=False)


@pytest.mark.skipif(not shutil.which("curl"), reason="needs curl")
class TestRelease:
    """The script that installs a release on the server."""

    def test_rolls_back_what_does_not_get_ready(self, machine: Server) -> None:
        first = machine.release("one")
        assert first.returncode == 0, first.stderr
        second = machine.release("two", broken=True)
        assert second.returncode == 1
        assert b"back to releases/one, which is ready" in second.stderr
        assert machine.current == "one"
        assert machine.release("three").returncode == 0
        assert machine.current == "three"

    def test_failed_migration_changes_nothing(self, machine: Server) -> None:
        assert machine.release("one").returncode == 0
        assert machine.release("two", migration=1).returncode != 0
        assert machine.current == "one"
        assert not (machine.folder / "root" / "releases" / "two").exists()
