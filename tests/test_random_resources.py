"""`make resource` with random fields: what it writes passes every check at once, and works.

16 lists of fields, the same in each run. `RESOURCE_LISTS=500` takes as many, 30 in one service.
"""

import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.owners_cases import Form
from tests.owners_service import Databases, OwnedService, Visitor
from tests.repositories import REPOSITORY
from tests.service import Service
from tests.test_owners_corpus import check_form, copy_of

pytestmark = [pytest.mark.full, pytest.mark.xdist_group("random_resources")]

SCRIPT = REPOSITORY / "tests" / "in_project" / "random_resources.py"
LISTS = int(os.environ.get("RESOURCE_LISTS", "16"))
IN_ONE_SERVICE = 30
ROWS = 5
"""Of each table."""
CALLS = 3
"""Of each operation, with random values."""

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,\
response_schema_conformance,response_headers_conformance,unsupported_method"
"""All that look at answers. Requests are read as pydantic reads them: 0 is a date, and false."""

CONTRACT = f"""
import sys
from kit.testing import broken_contract
address, token = sys.argv[1:]
options = dict(examples={CALLS}, checks="{CHECKS}", phases="fuzzing,stateful", token=token)
print(broken_contract(address, **options))
"""


@dataclass
class Written:
    """A service with random resources."""

    owned: OwnedService
    resources: list[dict[str, Any]]

    def check(self, *command: str) -> str:
        """Run a command, which has to succeed; its output."""
        done = self.owned.at_hand.outcome(*command)
        assert done.returncode == 0, self.named_in(done.stdout)
        return done.stdout

    def named_in(self, report: str) -> str:
        """A report, and the fields of the resources whose files, routes or tables it names."""
        lines = [
            f"{each['asked']}\n"
            for each in self.resources
            if re.search("|".join(each["files"]) + rf"|\b{each['table']}\b", report)
        ]
        return f"{report[-20_000:]}\n{''.join(lines)}"


@pytest.fixture(scope="module")
def databases(service: Service) -> Iterator[Databases]:
    databases = Databases(str(service.folder / ".venv" / "bin" / "python"), service.folder)
    yield databases
    databases.close()


@pytest.fixture(scope="module", params=range(0, LISTS, IN_ONE_SERVICE))
def written(
    service: Service, databases: Databases, request: pytest.FixtureRequest
) -> Iterator[Written]:
    copy = copy_of(service, f"random-{request.param}")
    copy.make("extension", "name=shop")
    count = min(IN_ONE_SERVICE, LISTS - request.param)
    owned = OwnedService(copy, databases, [])
    owned.settings["API_DOCS"] = "true"
    python = str(owned.project.python)
    paths = {"PYTHONPATH": str(copy.folder)}
    drawing = Service(copy.folder, owned.at_hand.environment | paths)
    told = drawing.run(python, str(SCRIPT), str(count), str(request.param))
    resources = [json.loads(line) for line in told.splitlines() if line.startswith("{")]
    assert len(resources) == count
    yield Written(owned, resources)
    shutil.rmtree(copy.folder)


def test_they_pass_the_checks(written: Written) -> None:
    written.check("make", "lint", "typecheck")


def test_their_tests_pass(written: Written) -> None:
    tests = [path for each in written.resources for path in each["files"] if "/test_" in path]
    written.check("make", "test", f"args={' '.join(tests)}")


def test_their_migrations_go_up_and_down_with_rows(written: Written) -> None:
    alembic = ("uv", "run", "--no-sync", "alembic")
    revisions = [
        Path(path).name.partition("_add")[0]
        for each in written.resources
        for path in each["files"]
        if path.startswith("alembic/versions/")
    ]
    for command in ("upgrade heads", "check"):
        written.check(*alembic, *command.split())
    written.check("make", "seed", f"rows={ROWS}")
    # While there are rows in the tables that those above it refer to, and in its own.
    for revision in (revisions[len(revisions) // 2], "base"):
        written.check("make", "db-downgrade", f"to={revision}", "yes=1")
        written.check("make", "db-upgrade")
        written.check("make", "seed", f"rows={ROWS}")


@pytest.fixture(scope="module")
def visitor(written: Written) -> Iterator[Visitor]:
    written.check("make", "db-upgrade")
    written.check("make", "seed", f"rows={ROWS}")
    with written.owned.running_api() as visitor:
        yield visitor


def test_the_admin_keeps_their_rows(written: Written, visitor: Visitor) -> None:
    for each in written.resources:
        try:
            check_form(visitor, written.owned, Form(view=each["identity"]))
        except AssertionError as error:
            raise AssertionError(f"{each['asked']}\n{error}") from error


def test_no_call_fails_or_breaks_the_schema(written: Written, visitor: Visitor) -> None:
    project = written.owned.project
    paths = {"PYTHONPATH": f"{project.folder}:{SCRIPT.parent}"}
    report = project.run(
        *(str(project.python), "-c", CONTRACT, visitor.address, visitor.tokens["*"]),
        **(paths | {"SCHEMATHESIS_HOOKS": "short_durations"}),
    )
    assert not report.strip(), written.named_in(report)
