"""Every job of the rendered pipelines, carried out as a fresh runner would.

A runner has a clone, an empty home and what the job itself installs. Actions are stood for by what
they do: a clone, and a uv on the path. Debian's packages are there already, as `.ci/run` installs
them; and osv.dev, which knows vulnerabilities, is a server of the test.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import copy_template
from tests.repositories import commit_all, git
from tests.service import Service, cache_of_uv
from tests.test_service import vulnerabilities

pytestmark = [pytest.mark.full, pytest.mark.xdist_group("rendered_ci")]

PATHS = {"github": ".github/workflows/ci.yml", "gitlab": ".gitlab-ci.yml"}
NO_COMMIT = "0" * 40
"""Both platforms give it as the one before a branch's first push."""
HAS_TO_RUN = {"checks": {"make lint", "make test-all"}, "dependencies": {"make audit", "make sbom"}}
NEEDS_DOCKER = {"audit-image": ["make audit-image"]}
"""Jobs that `tests/test_image.py` carries out, with stand-ins for Docker and the scanner."""

Step = tuple[str, dict[str, str]]
"""A script with its own environment."""


@pytest.fixture(scope="module", params=PATHS)
def platform(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def repository(template: Path, service: Service, service_folder: Path, platform: str) -> Path:
    """A service's repository as its owner pushes it, lock file included."""
    project = copy_template(template, service_folder / platform / "pushed", ci=platform)
    Service(project, {**service.environment}).run("uv", "lock", "--quiet")
    commit_all(project, "Start")
    return project


@pytest.fixture
def osv() -> Iterator[str]:
    with vulnerabilities(None) as url:
        yield url


def jobs_of(repository: Path, platform: str) -> dict[str, list[Step]]:
    """The steps of each job; of an expression of GitHub's, what a first push makes of it."""
    parsed: dict[str, Any] = yaml.safe_load((repository / PATHS[platform]).read_text("utf-8"))
    if platform == "gitlab":
        return {name: [(line, {}) for line in job["script"]] for name, job in parsed.items()}
    return {
        name: [
            (
                step["run"],
                {
                    variable: NO_COMMIT if "github.event.before" in value else value
                    for variable, value in step.get("env", {}).items()
                },
            )
            for step in job["steps"]
            if "run" in step
        ]
        for name, job in parsed["jobs"].items()
    }


def a_runner(repository: Path, folder: Path, platform: str) -> tuple[Service, tuple[str, ...]]:
    """A clone that was just made, and what each of its commands begins with."""
    folder.mkdir()
    git(folder, "clone", "--quiet", str(repository), str(folder / "clone"))
    environment = {"HOME": str(folder / "home"), "CI": "true", "UV_CACHE_DIR": cache_of_uv()}
    (folder / "home").mkdir()
    if platform == "github":
        (folder / "bin").mkdir()
        shutil.copy2(str(shutil.which("uv")), folder / "bin" / "uv")
        return Service(folder / "clone", environment | {"GITHUB_ACTIONS": "true"}), ()
    # The image named python has pip, and its root less rights than another one.
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    rights = ("setpriv", "--bounding-set=-sys_ptrace", "--inh-caps=-sys_ptrace")
    return (
        Service(
            folder / "clone",
            environment | {"GITLAB_CI": "true", "CI_COMMIT_BEFORE_SHA": NO_COMMIT},
        ),
        rights if os.getuid() == 0 else (),
    )


@pytest.mark.parametrize("job", HAS_TO_RUN)
def test_each_job(repository: Path, platform: str, job: str, osv: str) -> None:
    jobs = jobs_of(repository, platform)
    assert set(jobs) == {*HAS_TO_RUN, *NEEDS_DOCKER}
    runner, rights = a_runner(repository, repository.with_name(job), platform)
    ran = set()
    for script, environment in jobs[job]:
        if "apt-get install" in script:
            continue
        asked = {"args": f"--service-url {osv}"} if script == "make audit" else {}
        variables = [f"{name}={value}" for name, value in (environment | asked).items()]
        runner.run("env", *variables, *rights, "bash", "-e", "-o", "pipefail", "-c", script)
        ran.add(script)
    assert ran >= HAS_TO_RUN[job]


def test_a_job_that_needs_docker(repository: Path, platform: str) -> None:
    jobs = jobs_of(repository, platform)
    for job, expected in NEEDS_DOCKER.items():
        scripts = [script for script, _ in jobs[job] if not script.startswith("apk add ")]
        assert scripts == expected
