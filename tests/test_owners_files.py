"""A year of an owner's: four releases that change all they can touch nothing of what is theirs.

The owner has edited every file that is theirs, deleted some, and put lines of their own into every
file that they share with the template. Extensions come and go on the way.
"""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.combinations import Answers, catalogue
from tests.conftest import copy_template
from tests.owner_edits import Change, at_end, below, both, instead
from tests.owners_paths import is_owners
from tests.rendered import BINARY, files
from tests.repositories import commit_all, git, template_of_working_tree
from tests.test_update import release, update

pytestmark = pytest.mark.usefixtures("fast_copier")

FIRST, *LATER = ("v1.0.0", "v1.1.0", "v1.2.0", "v1.3.0", "v1.4.0")

CHOSEN: tuple[list[str], ...] = (
    ["hotel"],
    ["hotel", "mail", "webhooks"],
    ["storage", "webhooks"],
    [],
    catalogue(),
)
"""Extensions that the project has with each release."""

DELETED = ("README.md", "app/admin/filters.py", "static/js/health.js", "tests/test_architecture.py")
"""The owner's files that they have no use for."""

OWN_SERVICE = """\
  mailbox:
    image: axllent/mailpit
    ports: ["127.0.0.1:8025:8025"]
"""
OWN_HOOK = """\
      - id: no-print
        name: no print
        entry: "print( in app/"
        language: pygrep
        files: ^app/
"""
YOURS = "# --- Yours"
"""Begins the lines of the template below which owners write, and which no release changes."""


def yours(text: str, after: str = "") -> Change:
    """Put a text where the template says so, the first time behind a place."""
    place = re.compile(rf"{re.escape(after)}.*?{YOURS}[^\n]*\n", re.DOTALL)

    def change(content: str) -> str:
        changed, count = place.subn(lambda found: found[0] + text, content, count=1)
        assert count == 1, f"no place of theirs behind {after!r}"
        return changed

    return change


OWN_LINES: dict[str, Change] = {
    "pyproject.toml": both(
        instead("\ndependencies = []\n", '\ndependencies = [\n    "stamina>=25.1",\n]\n'),
        instead(
            'dev = [{ include-group = "kit-dev" }]\n',
            'dev = [\n    "ipdb>=0.13",\n    { include-group = "kit-dev" },\n]\n',
        ),
        below("enabled_extensions = [\n", '    "loyalty",\n'),
        yours('log_level = "DEBUG"\n', after="[tool.service]"),
        yours('    "stock: counts what is in stock",\n', after="\nmarkers"),
        yours('    "ignore:old:DeprecationWarning",\n', after="\nfilterwarnings"),
        yours('    "TD003",\n', after="\nignore"),
        at_end('\n[tool.ruff.lint.extend-per-file-ignores]\n"app/legacy/**" = ["D"]\n'),
    ),
    "docker-compose.yml": yours(OWN_SERVICE),
    ".pre-commit-config.yaml": yours(OWN_HOOK),
    ".github/workflows/ci.yml": yours("      - run: make own-check\n"),
    ".gitlab-ci.yml": yours("    - make own-check\n"),
    ".env.example": at_end("\n# --- Orders ---\n\n# Orders on a page.\n#ORDERS_PER_PAGE=50\n"),
    "AGENTS.md": at_end("\n- Prices are in cents.\n"),
    "Dockerfile": yours("RUN apt-get update && apt-get install --yes tesseract-ocr\n"),
    ".dockerignore": yours("!rates.csv\n"),
    ".gitignore": yours("*.ofx\n"),
    ".gitattributes": yours("*.ofx binary\n"),
    ".editorconfig": yours("[*.csv]\ntrim_trailing_whitespace = false\n"),
    "alembic.ini": yours("[logger_ours]\nlevel = INFO\nhandlers =\nqualname = ours\n"),
    "alembic/script.py.mako": yours("# Reviewed by:\n"),
    "conftest.py": yours('pytest_plugins = ["tests.orders"]\n'),
    "flowerconfig.py": yours("auto_refresh = False\n"),
}
"""What the owner adds to each file that they share with the template."""

OWN_FILES = {
    "docker-compose.override.yml": f"services:\n{OWN_SERVICE.replace('mailbox', 'metrics')}",
    "app/api/orders.py": '"""Orders."""\n',
    "app/extensions/loyalty/__init__.py": '"""Points."""\n',
    "app/extensions/_example/own.py": '"""Ours."""\n',
    "kit/own.py": '"""Ours, where nobody should put it."""\n',
}

MARK = re.compile(r"  # release \S+$")


def change_every_line(text: str, tag: str) -> str:
    """Change each line of a template that says something.

    Not so comments, headings and closing brackets, between which owners' lines stand, nor the
    lists that are there for them.
    """
    lines = text.splitlines()
    return "".join(
        f"{MARK.sub('', line)}  # release {tag}\n" if _says_something(line) else f"{line}\n"
        for line in lines
    )


THEIRS = ("dependencies = []", "dev = [", "enabled_extensions = [", "What holds for this service")
"""Lines that are there for owners to write into, or below."""


def _says_something(line: str) -> bool:
    is_theirs = line.startswith(THEIRS)
    is_heading = line.lstrip().startswith(("#", "[tool.", "[project]", "[dependency-groups]", "{%"))
    return bool(re.search(r"\w", line)) and not is_theirs and not is_heading


def change_everything(folder: Path, tag: str) -> None:
    """Make a release of a template that changes each of its files, brings some and loses some."""
    template = folder / "template"
    for path in sorted(template.rglob("*")):
        if not path.is_file() or path.suffix in BINARY or "{{" in path.name:
            continue
        text = path.read_text(encoding="utf-8")
        name = path.relative_to(template).as_posix().removesuffix(".jinja")
        if name.startswith("kit/") or is_owners(name):
            changed = f"# Release {tag}.\n{text}# Of release {tag}.\n"
        elif name == ".env.example":
            changed = re.sub(r"^(#?[A-Z_]+=[^ \n]*).*$", rf"\1  # {tag}", text, flags=re.MULTILINE)
        else:
            changed = change_every_line(text, tag)
        path.write_text(changed, encoding="utf-8")
    for path in folder.glob("extensions_catalog/*/models.py"):
        path.write_text(path.read_text("utf-8") + f"\n# Release {tag}.\n", encoding="utf-8")
    for room in ("kit", "app/core", "tests"):
        (template / room / f"of_{tag.replace('.', '_')}.py").write_text('"""New."""\n', "utf-8")
    min((template / "kit" / "commands").glob("[a-z]*.py")).unlink()
    release(folder, tag)


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A template of five releases, the first of which is the working tree."""
    folder = tmp_path_factory.mktemp("year") / "groundwork"
    template_of_working_tree(folder, FIRST.removeprefix("v"))
    for tag in LATER:
        change_everything(folder, tag)
    return folder


def work(project: Path) -> dict[str, bytes]:
    """Do the owner's work; what each file that is theirs alone then holds."""
    for name in shared_files(project):
        change, text = OWN_LINES[name], (project / name).read_text(encoding="utf-8")
        (project / name).write_text(change(text), encoding="utf-8")
    for name, content in OWN_FILES.items():
        (project / name).parent.mkdir(exist_ok=True)
        (project / name).write_text(content, encoding="utf-8")
    for name in DELETED:
        (project / name).unlink()
    for path in files(project):
        if is_owners(path.as_posix()) and path.as_posix() not in OWN_FILES:
            before = (project / path).read_bytes()
            (project / path).write_bytes(b"# Ours.\n" + before + b"# Ours.\n")
    commit_all(project, "Work")
    return owners_files(project)


def owners_files(project: Path) -> dict[str, bytes]:
    """What is the owner's alone, with what it holds."""
    return {
        path.as_posix(): (project / path).read_bytes()
        for path in files(project)
        if is_owners(path.as_posix()) or path.as_posix() in OWN_FILES
    }


def shared_files(project: Path) -> set[str]:
    """Files that both may change: neither the owner's nor the kit's, an extension's or Copier's."""
    no_names = ("kit/", "app/extensions/", ".copier-answers.yml")
    names = {path.as_posix() for path in files(project) if (project / path).read_bytes()}
    return {
        name
        for name in names - set(OWN_FILES)
        if not is_owners(name) and not name.startswith(no_names)
    }


@pytest.mark.parametrize("ci", ["github", "gitlab"])
def test_a_year_of_releases_conflicts_with_nothing_and_touches_nothing_of_the_owner_s(
    releases: Path, tmp_path: Path, ci: str
) -> None:
    answers: Answers = {"project_name": "Acme", "ci": ci, "extensions": CHOSEN[0]}
    project = copy_template(releases, tmp_path / "project", release=FIRST, **answers)
    commit_all(project, "Start")
    theirs = work(project)

    for tag, extensions in zip(LATER, CHOSEN[1:], strict=True):
        update(project, to=tag, extensions=extensions)
        assert conflicts(project) == {}, tag
        commit_all(project, f"Update to {tag}")

        assert owners_files(project) == theirs
        fresh = copy_template(
            releases, tmp_path / tag, release=tag, **{**answers, "extensions": extensions}
        )
        check_shared(project, fresh, tag)
        check_templates(project, fresh)


def conflicts(project: Path) -> dict[str, str]:
    """Text of the files that git lists as unmerged, cut to what is in conflict."""
    unmerged = git(project, "diff", "--name-only", "--diff-filter=U").splitlines()
    pattern = re.compile(r"^<<<<<<<.*?^>>>>>>>.*?$", re.MULTILINE | re.DOTALL)
    texts = {path: (project / path).read_text(encoding="utf-8") for path in unmerged}
    return {path: "\n".join(pattern.findall(text)) for path, text in texts.items()}


def check_shared(project: Path, fresh: Path, tag: str) -> None:
    """Shared files are what a new project's would be with the same work done to it."""
    for path in shared_files(project):
        expected = OWN_LINES[path]((fresh / path).read_text(encoding="utf-8"))
        assert (project / path).read_text(encoding="utf-8") == expected, path
        assert tag in expected, path
    document = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))
    assert document["project"]["dependencies"] == ["stamina>=25.1"]
    assert document["tool"]["service"]["enabled_extensions"][0] == "loyalty"
    services = parsed(project / "docker-compose.yml")["services"]
    assert {"api", "mailbox"} <= set(services)
    if (project / ".gitlab-ci.yml").exists():
        assert parsed(project / ".gitlab-ci.yml")["checks"]["script"][-1] == "make own-check"
    else:
        steps = parsed(project / ".github/workflows/ci.yml")["jobs"]["checks"]["steps"]
        assert steps[-1] == {"run": "make own-check"}
    hooks = parsed(project / ".pre-commit-config.yaml")["repos"][0]["hooks"]
    assert hooks[-1]["id"] == "no-print"


def check_templates(project: Path, fresh: Path) -> None:
    """The kit and the catalogue's extensions are the release's; nothing of older ones is left."""
    folders = ("kit/", "app/extensions/")
    found, expected = (
        {
            path.as_posix(): (folder / path).read_bytes()
            for path in files(folder)
            if path.as_posix().startswith(folders) and not is_owners(path.as_posix())
        }
        for folder in (project, fresh)
    )
    assert {path: content for path, content in found.items() if path not in OWN_FILES} == expected


def parsed(path: Path) -> Any:  # noqa: ANN401 (whatever a YAML file holds)
    return yaml.safe_load(path.read_text(encoding="utf-8"))
