"""The distinct trees that the template can render, and what is asked of each: lint, types, tests.

Trees are distinct where their Python files or their dependencies differ. All other files are the
same, or hold answers alone, and are checked for every combination.
"""

import re
import shutil
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from time import monotonic

from tests.combinations import (
    Answers,
    catalogue,
    combinations,
    sets_of_extensions,
)
from tests.conftest import copy_template
from tests.rendered import dependencies_of
from tests.repositories import commit_all
from tests.service import Service, cache_of_uv

CHECKS = ("lint", "typecheck", "test")
STRIDE = 113
"""Steps through all combinations of the other answers, so that the first few are far apart."""


def code_of(project: Path) -> tuple[str, ...]:
    """What tells a tree from others: the paths of its Python files, and its dependencies.

    The content of a Python file follows from its path: `check_untouched_files_are_the_template_s`.
    """
    paths = (str(path.relative_to(project)) for path in project.glob("app/extensions/*/*.py"))
    return (*sorted(paths), *dependencies_of(project))


@cache
def trees() -> list[Answers]:
    """A combination for each distinct tree, with all other answers spread over them.

    Each has the kit's own tests, so that those run in it too.
    """
    settings = [answers for answers in combinations() if not answers["extensions"]]
    # The covering trees are few, so they choose first.
    sets = sorted(sets_of_extensions(), key=lambda extensions: not _covers(extensions))
    return [
        settings[number * STRIDE % len(settings)] | {"extensions": extensions, "kit_tests": True}
        for number, extensions in enumerate(sets)
    ]


def covering_trees() -> list[Answers]:
    """Of the trees none, each extension alone, all but each, and all: every pair of in and out."""
    return [answers for answers in trees() if _covers(answers["extensions"])]


def _covers(extensions: list[str]) -> bool:
    return len(extensions) in {0, 1, len(catalogue()) - 1, len(catalogue())}


@dataclass
class Outcome:
    """What came of one tree.

    Attributes:
        answers: the combination.
        seconds: what each check took.
        tests: how many passed.
        failure: the check that failed, with what it printed; empty otherwise.
    """

    answers: Answers
    seconds: dict[str, float] = field(default_factory=dict)
    tests: int = 0
    failure: str = ""


class Workshop:
    """One environment with what all extensions need, and projects that are checked in it.

    That each project gets what it needs, and no more, is asked of its `pyproject.toml`.
    """

    def __init__(self, template: Path, folder: Path) -> None:
        """Set it up, which takes half a minute.

        Args:
            template: a repository of the template.
            folder: where projects go; uv is in its `bin`.
        """
        self._template = template
        self._folder = folder
        project = copy_template(
            template, folder / "everything", extensions=catalogue(), kit_tests=True
        )
        commit_all(project, "Start")
        self.everything = Service(project, {"UV_CACHE_DIR": cache_of_uv()})
        self.everything.make("setup", "typecheck")

    @property
    def python(self) -> str:
        """The interpreter that has everything installed."""
        return str(self.everything.folder / ".venv" / "bin" / "python")

    def service_of(self, project: Path) -> Service:
        """A project that runs with what is installed here."""
        shared = {
            "UV_PROJECT_ENVIRONMENT": str(self.everything.folder / ".venv"),
            "UV_NO_SYNC": "1",
            "MYPY_CACHE_DIR": str(project.parent / "mypy_cache"),
        }
        return Service(project, self.everything.environment | shared)

    def place(self, name: str) -> Path:
        """A folder for one project after another; types known for the last serve the next."""
        folder = self._folder / name
        folder.mkdir(exist_ok=True)
        if not (folder / "bin").exists():
            (folder / "bin").symlink_to(self._folder / "bin")
            shutil.copytree(self.everything.folder / ".mypy_cache", folder / "mypy_cache")
        return folder

    def check(self, answers: Answers, place: Path, *arguments: str) -> Outcome:
        """Render a tree, and run the checks in it until one fails.

        Args:
            answers: the combination.
            place: from `place`; whatever project was there is removed.
            arguments: for pytest.
        """
        outcome = Outcome(answers)
        project = place / "project"
        shutil.rmtree(project, ignore_errors=True)
        service = self.service_of(copy_template(self._template, project, **answers))
        for check in CHECKS:
            extra = [f"args={' '.join(arguments)}"] if check == "test" else []
            started = monotonic()
            done = service.outcome("make", check, *extra)
            outcome.seconds[check] = monotonic() - started
            if done.returncode:
                outcome.failure = f"make {check} ended with {done.returncode}\n{done.stdout}"
                return outcome
        passed = re.search(r"(\d+) passed", done.stdout)
        outcome.tests = int(passed[1]) if passed else 0
        if not outcome.tests:
            outcome.failure = f"no test ran\n{done.stdout}"
        return outcome
