"""Rendering: what lands in a project is valid, formatted, and untouched where nothing was asked."""

import ast
import json
import re
import subprocess
import tomllib
from collections.abc import Iterator
from functools import cache
from itertools import cycle, product
from pathlib import Path
from typing import Any

import pytest
import yaml
from jinja2 import Environment, nodes
from pytest_copier.plugin import CopierFixture

from tests.combinations import (
    HOSTILE_TEXTS,
    Answers,
    combinations,
    configuration,
    identifier,
    questions,
    representative_combinations,
    values_of,
)
from tests.conftest import Render, copy_template

QUICK = representative_combinations()
TIERS = [
    *(pytest.param(answers, id=identifier(answers)) for answers in QUICK),
    *(
        pytest.param(answers, id=identifier(answers), marks=pytest.mark.full)
        for answers in combinations()
        if answers not in QUICK
    ),
]

WINDOWS_NAME = re.compile(r'[^<>:"|?*\\\x00-\x1f]*[^<>:"|?*\\\x00-\x1f .]')
WINDOWS_DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
COMPOSE_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
FOLDERS_WITHOUT_ANSWERS = ["/alembic", "/app", "/devservices", "/static", "/templates", "/tests"]
MAY_BE_EMPTY = {"__init__.py", ".gitkeep", "py.typed"}
BINARY = {".png", ".ico", ".woff2"}


def files(folder: Path) -> Iterator[Path]:
    """All files of a project, as paths relative to it."""
    for path in sorted(folder.rglob("*")):
        inner = path.relative_to(folder)
        if not path.is_dir() and ".git" not in inner.parts:
            yield inner


def texts(folder: Path) -> Iterator[tuple[Path, str]]:
    """All text files of a project with what they hold, line ends untouched."""
    for path in files(folder):
        if path.suffix not in BINARY:
            yield path, (folder / path).read_bytes().decode("utf-8")


@pytest.mark.parametrize("answers", TIERS)
def test_combination(render_fast: Render, template_without_git: Path, answers: Answers) -> None:
    project = render_fast(**answers)
    check_parses(project)
    check_text(project)
    check_names(project)
    check_no_jinja_is_left(project, answers)
    check_answers_arrived(project, answers)
    check_dependencies(project)
    check_files_of_the_answers(project, answers)
    check_untouched_files_are_the_template_s(project, template_without_git / "template")


def check_parses(project: Path) -> None:
    for path, text in texts(project):
        if path.suffix == ".py":
            check_python(text)
        elif path.suffix == ".toml":
            tomllib.loads(text)
        elif path.suffix in {".yml", ".yaml"}:
            assert yaml.safe_load(text), path
        elif path.suffix == ".json":
            json.loads(text)


@cache
def check_python(text: str) -> None:
    """Once for each text: most files are the same in every project."""
    ast.parse(text)


def check_text(project: Path) -> None:
    for path, text in texts(project):
        assert "\r" not in text, path
        assert "\ufeff" not in text, path
        assert text.strip() or path.name in MAY_BE_EMPTY, f"{path} is empty"
        assert not text or (text.endswith("\n") and not text.endswith("\n\n")), path
        if path.suffix != ".md":
            assert not re.search(r"[ \t]$", text, re.MULTILINE), f"{path}: space at a line's end"


def check_names(project: Path) -> None:
    lower = [str(path).lower() for path in files(project)]
    assert len(lower) == len(set(lower)), "names that differ in case alone"
    for path in files(project):
        assert not (project / path).is_symlink(), path
        assert len(str(path)) < 120, path
        for part in path.parts:
            assert WINDOWS_NAME.fullmatch(part), path
            assert not WINDOWS_DEVICE.fullmatch(part), path
            assert part not in {"tags", "RCS", "CVS"}, f"copier update never removes {path}"
            assert not part.endswith((".jinja", ".rej", ".orig", ".pyc")), path
    assert not (project / ".env").exists()
    assert not (project / "uv.lock").exists()


def check_no_jinja_is_left(project: Path, answers: Answers) -> None:
    hostile = [text for text in answers.values() if text in HOSTILE_TEXTS]
    for path, text in texts(project):
        if f"/{path.parts[0]}" in FOLDERS_WITHOUT_ANSWERS:
            continue  # never rendered: compared byte by byte below
        left = text
        for given in hostile:
            for form in (given, json.dumps(given, ensure_ascii=False)[1:-1]):
                left = left.replace(form, "")
        if hostile and path.name in {"README.md", "AGENTS.md", ".copier-answers.yml"}:
            continue  # escaped and folded in ways of their own: read back elsewhere
        assert not re.search(r"\{%|\{#|(?<!\$)\{\{", left), path


def check_answers_arrived(project: Path, answers: Answers) -> None:
    document = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))
    table = document["tool"]["service"]
    minimum = answers.get("python_minimum", "3.11")
    assert document["project"]["requires-python"] == f">={minimum}"
    assert document["tool"]["mypy"]["python_version"] == minimum
    assert document["tool"]["ruff"]["target-version"] == f"py{minimum.replace('.', '')}"
    assert table["celery_timezone"] == answers.get("time_zone", "UTC")
    assert table["enabled_extensions"] == answers.get("extensions", [])
    assert ("postgres_host" in table) == (answers.get("database", "none") != "none")
    assert ("redis_host" in table) == (answers.get("redis", "none") != "none")
    for name in ("project_name", "project_description"):
        assert table[name] == answers.get(name, questions()[name]["default"])
    remembered = yaml.safe_load((project / ".copier-answers.yml").read_text(encoding="utf-8"))
    assert {name: remembered[name] for name in answers} == answers


def check_dependencies(project: Path) -> None:
    """Lines that come with an extension stand in their place of the alphabet, and once."""
    document = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))
    for lines in (document["project"]["dependencies"], document["dependency-groups"]["dev"]):
        names = [re.split(r"[<>=~!; ]", line)[0] for line in lines]
        assert names == sorted(set(names))


def check_files_of_the_answers(project: Path, answers: Answers) -> None:
    ci = answers.get("ci", "github")
    assert (project / ".github").exists() == (ci == "github")
    assert (project / ".gitlab-ci.yml").exists() == (ci == "gitlab")
    compose = yaml.safe_load((project / "docker-compose.yml").read_text(encoding="utf-8"))
    assert COMPOSE_NAME.fullmatch(compose["name"])
    folders = {path.name for path in (project / "app" / "extensions").iterdir() if path.is_dir()}
    assert folders - {"__pycache__"} == {"_example", *answers.get("extensions", [])}


def check_untouched_files_are_the_template_s(project: Path, source: Path) -> None:
    """T4: Python and all else without a .jinja suffix is copied, not rendered."""
    compared = 0
    for path in files(project):
        if (source / path).is_file():
            assert (project / path).read_bytes() == (source / path).read_bytes(), path
            compared += 1
        else:
            assert path.suffix != ".py", path
    assert compared > 20


def test_extensions_and_other_answers_are_never_asked_about_together(template: Path) -> None:
    """So the sets of extensions need not be multiplied with the other answers.

    What a project holds because of its extensions is the same whatever the other answers are.
    """
    together = [
        f"{path.name}: {chunk}"
        for path, text in rendered_texts(template)
        for chunk in chunks(text)
        if {"extensions"} < asked_questions(names_in(chunk))
    ]
    assert together == []


def test_the_reading_of_templates_finds_what_depends_on_what() -> None:
    both = "{% for name in extensions %}{{ name }}{{ project_slug }}{% endfor %}"
    [chunk] = chunks(both)
    assert asked_questions(names_in(chunk)) == {"extensions", "project_name"}
    apart = "{% if extensions %}a{% endif %}{{ project_slug }} {{ extensions | length }}"
    found = [asked_questions(names_in(chunk)) for chunk in chunks(apart)]
    assert found == [{"extensions"}, {"project_name"}, {"extensions"}]


def rendered_texts(template: Path) -> Iterator[tuple[Path, str]]:
    """Each text of the template that is rendered, but for the answers file, which holds all."""
    for path in sorted((template / "template").rglob("*.jinja")):
        if "_copier_conf.answers_file" not in path.name:
            yield path, path.read_text(encoding="utf-8")
    for line in configuration()["_exclude"]:
        yield template / "copier.yml", line


def chunks(text: str) -> Iterator[nodes.Node]:
    """The statements and expressions of a template that stand in no other."""
    for node in Environment(autoescape=True).parse(text).body:
        if isinstance(node, nodes.Output):
            yield from (each for each in node.nodes if not isinstance(each, nodes.TemplateData))
        else:
            yield node


def names_in(node: nodes.Node) -> set[str]:
    found = set(node.find_all(nodes.Name)) | ({node} if isinstance(node, nodes.Name) else set())
    return {name.name for name in found}


def asked_questions(names: set[str]) -> set[str]:
    """The questions that these names stand for: some are values computed of others."""
    asked = names & set(questions())
    for name in names & set(configuration()) - asked:
        default = configuration()[name]["default"]
        if isinstance(default, str) and "{{" in default:
            inner = Environment(autoescape=True).parse(default)
            asked |= asked_questions(names_in(inner) - {name})
    return asked


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


def test_fast_rendering_gives_the_same(template: Path, render_fast: Render, tmp_path: Path) -> None:
    """The matrix renders without git: nothing but the recorded source may differ by that."""
    fast = render_fast("fast")
    usual = copy_template(template, tmp_path / "usual")
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
    for command in ("git init", "make dev"):
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
    makefile = (project / "Makefile").read_text(encoding="utf-8")
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
        assert services["flower"]["ports"] == ["127.0.0.1:5555:5555"]
        assert services["api"]["ports"] == ["127.0.0.1:8000:8000"]

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
        assert not {"!.env", "!devservices", "!tests"} & set(rules)
