"""Rendering: what lands in a project is valid, formatted, and untouched where nothing was asked."""

import json
import re
import subprocess
from collections.abc import Iterable
from itertools import cycle, product
from pathlib import Path
from typing import Any

import pytest
import yaml
from pytest_copier.plugin import CopierFixture

from tests.combinations import (
    HOSTILE_TEXTS,
    Answers,
    combinations,
    identifier,
    representative_combinations,
    values_of,
)
from tests.conftest import Render, copy_template
from tests.matrix import copy_command, render_share
from tests.rendered import (
    FOLDERS_WITHOUT_ANSWERS,
    check_project,
    check_untouched_files_are_the_template_s,
    files,
    texts,
)

SHARES = 24
"""Tests that the combinations are dealt out to, so that workers side by side share them."""

REPRESENTATIVES = [
    pytest.param(answers, id=identifier(answers)) for answers in representative_combinations()
]


@pytest.mark.full
@pytest.mark.parametrize("share", range(SHARES))
def test_every_combination(answered_part: Path, share: int) -> None:
    failures, _ = render_share(answered_part, combinations()[share::SHARES])
    assert [f"{copy_command(answers)}\n{failure}" for answers, failure in failures] == []


@pytest.mark.parametrize("answers", REPRESENTATIVES)
def test_a_whole_project(
    render_fast: Render, template_without_git: Path, answered_part: Path, answers: Answers
) -> None:
    """The part that answers reach, and beside it the template's files byte for byte."""
    project = render_fast(**answers)
    check_project(project, answers)
    check_untouched_files_are_the_template_s(project, template_without_git / "template")
    part = copy_template(answered_part, project.parent / "part", **answers)
    for path in files(part):
        if path.name != ".copier-answers.yml":  # it names its source
            assert (part / path).read_bytes() == (project / path).read_bytes(), path
    copied = {path for path in files(template_without_git / "template") if path.suffix != ".jinja"}
    assert outside_app(files(project)) == outside_app(copied) | outside_app(files(part))


def outside_app(paths: Iterable[Path]) -> set[Path]:
    """Without what follows the chosen extensions, which `check_files_of_the_answers` looks at."""
    return {path for path in paths if path.parts[0] != "app"}


@pytest.mark.parametrize("python_minimum", ["3.11", "3.12", "3.13"])
def test_is_born_formatted(render_fast: Render, python_minimum: str) -> None:
    project = render_fast(python_minimum=python_minimum, project_name=HOSTILE_TEXTS[0])
    for command in (["check"], ["format", "--check"]):
        done = subprocess.run(
            ["ruff", *command, "--no-cache", "."],
            cwd=project,
            check=False,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr


def distinct(render: Render, path: str) -> list[Path]:
    """A file as the answers that it depends on give it, each content once."""
    found: dict[bytes, Path] = {}
    names = cycle(HOSTILE_TEXTS)
    for ci, minimum in product(values_of("ci"), values_of("python_minimum")):
        answers = {"ci": ci, "python_minimum": minimum, "project_name": next(names)}
        project = render(f"{ci}-{minimum}", exclude=FOLDERS_WITHOUT_ANSWERS, **answers)
        if (project / path).exists():
            found.setdefault((project / path).read_bytes(), project / path)
    return list(found.values())


@pytest.mark.parametrize(
    ("path", "command"),
    [
        ("docker-compose.yml", ["check-jsonschema", "--builtin-schema", "vendor.compose-spec"]),
        (".gitlab-ci.yml", ["check-jsonschema", "--builtin-schema", "vendor.gitlab-ci"]),
        (
            ".github/workflows/ci.yml",
            ["check-jsonschema", "--builtin-schema", "vendor.github-workflows"],
        ),
        (".github/workflows/ci.yml", ["zizmor", "--offline", "--no-progress", "--pedantic"]),
        ("renovate.json", ["check-jsonschema", "--builtin-schema", "vendor.renovate"]),
        ("Dockerfile", ["hadolint"]),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
def test_its_own_tool_finds_nothing_wrong(
    render_fast: Render, path: str, command: list[str]
) -> None:
    found = distinct(render_fast, path)
    assert found
    done = subprocess.run([*command, *found], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_renovate_can_renew_the_base_image(render_fast: Render) -> None:
    """It replaces an image's name where that stands in full, and each stage but the first is ours.

    With a variable in it, Renovate 44 reads the name and finds nothing to replace.
    https://docs.renovatebot.com/modules/manager/dockerfile/
    """
    project = render_fast()
    steps = (project / "Dockerfile").read_text(encoding="utf-8")
    images = re.findall(r"^FROM (\S+)(?: AS (\w+))?$", steps, re.MULTILINE)
    assert re.fullmatch(r"python:[\d.]+-slim(@sha256:[0-9a-f]{64})?", images[0][0])
    assert {image for image, _ in images[1:]} <= {stage for _, stage in images}
    renovate = json.loads((project / "renovate.json").read_text(encoding="utf-8"))
    assert "docker:pinDigests" in renovate["extends"]
    assert "dockerfile" in renovate["enabledManagers"]


@pytest.mark.parametrize("path", [".gitlab-ci.yml", ".github/workflows/ci.yml"])
def test_ci_runs_every_test_that_a_service_has_of_migrations(
    render_fast: Render, path: str
) -> None:
    """Two heads, for one, come with a merge of two branches that were right each."""
    for found in distinct(render_fast, path):
        steps = (line.strip() for line in found.read_text(encoding="utf-8").splitlines())
        assert {"- make test-all", "- run: make test-all"} & set(steps)
    test = render_fast() / "tests/migrations/test_upgrade.py"
    assert "def test_no_branch_has_two_heads" in test.read_text(encoding="utf-8")


def test_fast_rendering_gives_the_same(template: Path, render_fast: Render, tmp_path: Path) -> None:
    """As Copier's own command; nothing but the recorded source may differ."""
    fast, usual = render_fast("fast"), tmp_path / "usual"
    subprocess.run(["copier", "copy", "--quiet", "--defaults", template, usual], check=True)
    assert list(files(fast)) == list(files(usual))
    for path in files(usual):
        assert (fast / path).stat().st_mode == (usual / path).stat().st_mode, path
        if path.name != ".copier-answers.yml":
            assert (fast / path).read_bytes() == (usual / path).read_bytes(), path


def test_copy_tells_what_to_run_next_and_asks_for_no_trust(template: Path, tmp_path: Path) -> None:
    project = tmp_path / "with space"
    done = subprocess.run(
        ["copier", "copy", "--defaults", str(template), str(project)],
        check=True,
        capture_output=True,
        text=True,
    )
    assert f"cd '{project}'" in done.stderr
    for command in ("git init && make setup", "git add . && git commit", "make dev"):
        assert f"\n  {command}" in done.stderr
    assert "PASSWORD" not in done.stderr


def test_copy_names_the_passwords_that_are_missing(template: Path, tmp_path: Path) -> None:
    data = ["--data", "redis=redis", "--data", "redis_endpoint=redis.example.com:6379"]
    done = subprocess.run(
        ["copier", "copy", "--defaults", *data, str(template), str(tmp_path / "project")],
        check=True,
        capture_output=True,
        text=True,
    )
    assert "REDIS_PASSWORD" in done.stderr
    assert "POSTGRES_PASSWORD" not in done.stderr


def test_markup_in_a_name_stays_text(copier: CopierFixture, tmp_path: Path) -> None:
    project = copier.copy(tmp_path, project_name="<b>*Bold*</b> [x](javascript:y)")
    readme = project / "README.md"
    assert readme.read_text(encoding="utf-8").splitlines()[0] == (
        r"# \<b\>\*Bold\*\</b\> \[x\](javascript:y)"
    )


def test_make_targets_that_the_documents_name_are_there(
    copier: CopierFixture, tmp_path: Path
) -> None:
    project = copier.copy(tmp_path).path
    makefile = (project / "kit" / "kit.mk").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    for path, text in texts(project):
        if path.name in {"README.md", "AGENTS.md", "ci.yml", ".env.example"}:
            named = set(re.findall(r"(?:`|\$ |- |: )make ([a-z]+(?:-[a-z]+)*)", text))
            assert named <= targets, path


def parsed(path: Path) -> Any:  # noqa: ANN401 (whatever a YAML file holds)
    return yaml.safe_load(path.read_text(encoding="utf-8"))


class TestCompose:
    """The services that the stack names, closed to the outside where nobody logs in."""

    def test_services(self, render_fast: Render) -> None:
        services = parsed(render_fast() / "docker-compose.yml")["services"]
        assert set(services) == {"api", "celery-worker", "celery-beat", "flower", "migrate"}
        for service in services.values():
            assert service["environment"]["ENVIRONMENT"] == "production"
        worker = " ".join(services["celery-worker"]["command"])
        assert "--pool solo --concurrency 1" in worker

    def test_ports_are_open_to_this_machine_alone(self, render_fast: Render) -> None:
        services = parsed(render_fast() / "docker-compose.yml")["services"]
        assert services["flower"]["ports"] == ["127.0.0.1:${FLOWER_PORT:-5555}:5555"]
        assert services["api"]["ports"] == ["127.0.0.1:${API_PORT:-8000}:8000"]

    def test_no_container_fills_the_machine(self, render_fast: Render) -> None:
        for service in parsed(render_fast() / "docker-compose.yml")["services"].values():
            assert service["mem_limit"] == "${CONTAINER_MEMORY:-512m}"
            assert service["logging"]["options"] == {"max-size": "10m", "max-file": "5"}

    def test_it_starts_as_many_as_connections_are_shared_out_for(self, render_fast: Render) -> None:
        services = parsed(render_fast() / "docker-compose.yml")["services"]
        replicas = {
            name: each["deploy"]["replicas"] for name, each in services.items() if "deploy" in each
        }
        assert replicas == {
            "celery-worker": "${CELERY_WORKERS:-1}",
            "celery-beat": "${CELERY_BEATS:-1}",
        }

    def test_everything_waits_for_the_migrations(self, render_fast: Render) -> None:
        services = parsed(render_fast() / "docker-compose.yml")["services"]
        for name in set(services) - {"migrate"}:
            condition = services[name]["depends_on"]["migrate"]["condition"]
            assert condition == "service_completed_successfully"


class TestImage:
    """The image holds what runs in production, and nothing else."""

    def test_runs_as_nobody_special_in_production(self, render_fast: Render) -> None:
        text = (render_fast() / "Dockerfile").read_text(encoding="utf-8")
        assert re.search(r"^USER \d{4,}$", text, re.MULTILINE)
        assert "ENVIRONMENT=production" in text
        assert "--no-dev" in text

    def test_gets_neither_secrets_nor_development_tools(self, render_fast: Render) -> None:
        lines = (render_fast() / ".dockerignore").read_text(encoding="utf-8").splitlines()
        rules = [line for line in lines if line and not line.startswith("#")]
        assert rules[0] == "*"
        assert not {"!.env", "!tests"} & set(rules)
        kept_out = {"kit/devservices", "kit/rehearsal", "kit/resource", "kit/testing", "**/tests"}
        kept_out |= {"kit/commands/rehearse.py", "kit/commands/resource.py"}  # which need them
        assert kept_out <= set(rules[rules.index("!kit") :])
