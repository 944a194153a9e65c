"""What every rendered project has to be, whatever the answers were."""

import ast
import json
import re
import tomllib
from collections.abc import Iterator
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import yaml

from tests.combinations import HOSTILE_TEXTS, Answers, questions

WINDOWS_NAME = re.compile(r'[^<>:"|?*\\\x00-\x1f]*[^<>:"|?*\\\x00-\x1f .]')
WINDOWS_DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
COMPOSE_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
FOLDERS_WITHOUT_ANSWERS = ["/alembic", "/app", "/kit", "/static", "/templates", "/tests"]
MAY_BE_EMPTY = {"__init__.py", ".gitkeep", "py.typed"}
BINARY = {".png", ".ico", ".woff2"}

Contents = dict[Path, str]
"""The text files of a project, with what they hold."""


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


def check_project(project: Path, answers: Answers) -> None:
    """Raise AssertionError where a project, or the part of it that answers reach, is not right."""
    contents = dict(texts(project))
    check_parses(contents)
    check_text(contents)
    check_names(project)
    check_no_jinja_is_left(contents, answers)
    check_answers_arrived(project, answers)
    check_dependencies(project)
    check_files_of_the_answers(project, answers)


def check_parses(contents: Contents) -> None:
    for path, text in contents.items():
        try:
            check_parses_as(path.suffix, text)
        except Exception as error:
            error.add_note(f"in {path}")
            raise


def check_parses_as(suffix: str, text: str) -> None:
    if suffix == ".py":
        check_python(text)
    elif suffix == ".toml":
        toml_of(text)
    elif suffix in {".yml", ".yaml"}:
        assert yaml_of(text)
    elif suffix == ".json":
        json.loads(text)


@cache
def yaml_of(text: str) -> Any:  # noqa: ANN401 (whatever a YAML file holds)
    """Read once for each text, as below: most files are the same in many projects."""
    return yaml.safe_load(text)


@lru_cache
def toml_of(text: str) -> dict[str, Any]:
    """Read once for all that is asked of one project; nobody changes it."""
    return tomllib.loads(text)


@cache
def check_python(text: str) -> None:
    ast.parse(text)


def check_text(contents: Contents) -> None:
    for path, text in contents.items():
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


def check_no_jinja_is_left(contents: Contents, answers: Answers) -> None:
    hostile = [text for text in answers.values() if text in HOSTILE_TEXTS]
    for path, text in contents.items():
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
    document = toml_of((project / "pyproject.toml").read_text(encoding="utf-8"))
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
    remembered = yaml_of((project / ".copier-answers.yml").read_text(encoding="utf-8"))
    assert {name: remembered[name] for name in answers} == answers


def check_dependencies(project: Path) -> None:
    """Lines that come with an extension stand in their place of the alphabet, and once.

    The owner's own dependencies and tools are theirs: nothing but the kit's stands among them.
    """
    document = toml_of((project / "pyproject.toml").read_text(encoding="utf-8"))
    groups = document["dependency-groups"]
    for lines in (groups["kit"], groups["kit-dev"]):
        names = [re.split(r"[<>=~!; ]", line)[0] for line in lines]
        assert names == sorted(set(names))
    assert document["project"]["dependencies"] == []
    assert groups["dev"] == [{"include-group": "kit-dev"}]


def dependencies_of(project: Path) -> list[str]:
    """What a project needs, for its development too: its own, the kit's and the extensions'."""
    document = toml_of((project / "pyproject.toml").read_text(encoding="utf-8"))
    groups = document["dependency-groups"]
    own = [*document["project"]["dependencies"], *groups["dev"]]
    needed = [*own, *groups["kit"], *groups["kit-dev"]]
    return [each for each in needed if isinstance(each, str)]


def check_files_of_the_answers(project: Path, answers: Answers) -> None:
    ci = answers.get("ci", "github")
    assert (project / ".github").exists() == (ci == "github")
    assert (project / ".gitlab-ci.yml").exists() == (ci == "gitlab")
    # The part that answers reach has none of them.
    assert not (project / "kit" / "tests").exists() or answers.get("kit_tests", False)
    compose = yaml_of((project / "docker-compose.yml").read_text(encoding="utf-8"))
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
