"""Whatever its owner adds works: every case of `tests/owners/`, driven as its users would."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import copy_template
from tests.owners_cases import Call, Case, Form, alone, cases, together
from tests.owners_service import Databases, OwnedService, Visitor
from tests.repositories import commit_all
from tests.service import Service, cache_of_uv

pytestmark = pytest.mark.xdist_group("owners")
full = pytest.mark.full

LOAD = 50
"""Requests on each route that reads."""
GROWTH = 1.25
"""Of the API's memory, from after the first load to after the second."""


@pytest.fixture(scope="module")
def project(template: Path, service_folder: Path) -> Service:
    """A project with the extensions that cases need, set up and committed."""
    needed = sorted({name for case in cases() for name in case.extensions})
    folder = copy_template(template, service_folder / "owners", extensions=needed)
    commit_all(folder, "Start")
    service = Service(folder, {"UV_CACHE_DIR": cache_of_uv()})
    service.make("setup")
    return service


@pytest.fixture(scope="module")
def databases(project: Service) -> Iterator[Databases]:
    databases = Databases(str(project.folder / ".venv" / "bin" / "python"), project.folder)
    yield databases
    databases.close()


def copy_of(project: Service, name: str) -> Service:
    """A copy of the project, which runs in its environment."""
    folder = project.folder.with_name(f"owners-{name}")
    ignored = shutil.ignore_patterns(".venv", ".git", ".data", ".*_cache")
    shutil.copytree(project.folder, folder, ignore=ignored)
    shared = {
        "UV_PROJECT_ENVIRONMENT": str(project.folder / ".venv"),
        "UV_NO_SYNC": "1",
        "VIRTUAL_ENV": "",
    }
    return Service(folder, project.environment | shared)


@pytest.fixture(scope="module")
def owned(project: Service, databases: Databases) -> OwnedService:
    """All cases that can stand beside each other, migrated."""
    owned = OwnedService(copy_of(project, "together"), databases, together())
    owned.migrate()
    return owned


@pytest.fixture(scope="module")
def visitor(owned: OwnedService) -> Iterator[Visitor]:
    with owned.running() as visitor:
        yield visitor


def test_there_are_sixty_cases() -> None:
    assert len(cases()) >= 60


def test_cases_do_not_have_files_of_one_name() -> None:
    """Those that are laid into one service."""
    files = [str(path) for case in together() for path in case.files()]
    assert sorted({path for path in files if files.count(path) > 1}) == []


@full
def test_lint(owned: OwnedService) -> None:
    """What the documentation has people write, and the migration, pass the checks as they are."""
    owned.at_hand.make("lint")


@full
def test_types(owned: OwnedService) -> None:
    owned.at_hand.make("typecheck")


@full
def test_rendered_tests(owned: OwnedService) -> None:
    # Some of the cases fail on purpose, or take as much as they are asked for.
    assert " passed" in owned.service.make("test-all", "args=--deselect tests/api/test_contract.py")


@full
@pytest.mark.parametrize("case", [case for case in together() if case.calls], ids=lambda c: c.name)
def test_calls(visitor: Visitor, case: Case) -> None:
    for call in case.calls:
        check_call(visitor, call)


@full
@pytest.mark.parametrize(
    "form",
    [
        pytest.param(form, id=f"{case.name}-{form.view}")
        for case in together()
        for form in case.admin
    ],
)
def test_admin(visitor: Visitor, owned: OwnedService, form: Form) -> None:
    check_form(visitor, owned, form)


@full
def test_every_other_view(visitor: Visitor, owned: OwnedService) -> None:
    named = {form.view for case in together() for form in case.admin}
    for view in visitor.views():
        if view not in named:
            check_form(visitor, owned, Form(view=view))


@full
def test_load_leaves_pool_and_memory_as_before(visitor: Visitor, owned: OwnedService) -> None:
    reads = [
        call
        for case in together()
        for call in case.calls
        if call.method == "GET" and call.status < 300
    ]
    load(visitor, reads)
    before = visitor.server.resident_megabytes()
    load(visitor, reads)
    check_call(visitor, Call.model_validate({"path": "/health/ready"}))
    assert owned.busy_connections() == 0
    assert visitor.server.resident_megabytes() < before * GROWTH


@full
@pytest.mark.parametrize("case", alone(), ids=lambda case: case.name)
def test_alone(project: Service, databases: Databases, case: Case) -> None:
    """Its start fails with the reason, or it serves."""
    copy = copy_of(project, case.name)
    owned = OwnedService(copy, databases, [case])
    if case.refused:
        check_refused(owned, case)
    else:
        if any(copy.folder.glob("app/models/[!_]*")):
            owned.migrate()
        else:
            owned.at_hand.make("db-upgrade")
        with owned.running_api() as visitor:
            for call in case.calls:
                check_call(visitor, call)
            for form in case.admin:
                check_form(visitor, owned, form)
    shutil.rmtree(copy.folder)


def check_call(visitor: Visitor, call: Call) -> None:
    for answer in visitor.calls(call, call.times):
        said = f"{call.method} {call.path}: {answer.status_code}{visitor.why(answer)}"
        assert answer.status_code == call.status, said
        assert call.says in answer.text, said
        if call.answer is not None:
            assert contains(answer.json(), call.answer), said


def contains(found: Any, expected: Any) -> bool:  # noqa: ANN401 (JSON)
    """Whether JSON is what is expected, but for further keys of objects."""
    if isinstance(expected, dict):
        return isinstance(found, dict) and all(
            name in found and contains(found[name], value) for name, value in expected.items()
        )
    if isinstance(expected, list):
        return (
            isinstance(found, list)
            and len(found) == len(expected)
            and all(map(contains, found, expected))
        )
    return bool(found == expected)


def check_form(visitor: Visitor, owned: OwnedService, form: Form) -> None:
    """A view's pages open, its forms take what they should, and change nothing by themselves."""
    pages = f"/admin/{form.view}"
    for refused in form.refused:
        check_page(visitor, f"{pages}/create")
        answer = visitor.submit(refused.typed)
        assert answer.status_code == 400, f"{refused.typed}: {visitor.why(answer)}"
        assert refused.says in visitor.browser.page.get_text(), visitor.why(answer)
    if form.create is not None:
        check_page(visitor, f"{pages}/create")
        answer = visitor.submit(form.create)
        said = visitor.why(answer)
        assert visitor.browser.url.partition("?")[0].endswith("/list"), said
    check_page(visitor, f"{pages}/list")
    page = visitor.browser.page
    details = [str(link["href"]) for link in page.select(f'tbody a[href*="{pages}/details/"]')]
    edits = [str(link["href"]) for link in page.select(f'tbody a[href*="{pages}/edit/"]')]
    if form.create is not None:
        assert details, "the list does not show the row"
    for link in every_link_of_a_list(visitor, pages):
        check_page(visitor, link)
    if details:
        check_page(visitor, details[-1])
        text = visitor.browser.page.get_text(" ", strip=True)
        for shown in form.shows:
            assert shown in text, text
    if edits:
        before = owned.rows()
        check_page(visitor, edits[-1])
        answer = visitor.submit({})
        assert "/edit/" not in visitor.browser.url, visitor.why(answer)
        after = owned.rows()
        changed = [table for table in after if after[table] != before[table]]
        assert not changed, [(before[table], after[table]) for table in changed]


def every_link_of_a_list(visitor: Visitor, pages: str) -> list[str]:
    """Sorted both ways, searched, filtered, exported, and the form of a new row."""
    page = visitor.browser.page
    links = {str(link["href"]) for link in page.select('a[href*="sortBy="], a[href*="/export/"]')}
    links |= {link.replace("sort=asc", "sort=desc") for link in links}
    links |= {
        visitor.browser.absolute_url(str(a["href"])) for a in page.select("#filter-sidebar a")
    }
    if page.select_one("#search-input"):
        links |= {f"{pages}/list?search={text}" for text in ("1", "draft", "%25", "x'y")}
    if page.select_one(f'a[href$="{pages}/create"]'):
        links.add(f"{pages}/create")
    return sorted(links)


def check_page(visitor: Visitor, address: str) -> None:
    answer = visitor.open(address)
    assert answer.status_code == 200, f"{address}: {answer.status_code}{visitor.why(answer)}"


def load(visitor: Visitor, reads: list[Call]) -> None:
    """Read often; what a case has deleted by now is not found, each time."""
    for call in reads:
        answers = visitor.calls(call, LOAD)
        statuses = {answer.status_code for answer in answers}
        assert len(statuses) == 1, f"{call.path}: {statuses}"
        assert statuses <= {call.status, 404}, f"{call.path}: {visitor.why(answers[0])}"


def check_refused(owned: OwnedService, case: Case) -> None:
    python = str(owned.project.python)
    service = Service(owned.at_hand.folder, owned.at_hand.environment | owned.settings)
    ended = service.outcome(python, "-m", "kit.commands.serve", "--check")
    assert ended.returncode, f"it starts:\n{ended.stdout}"
    said = re.sub(r"\s+", " ", ended.stdout)
    for text in case.refused:
        assert text in said, ended.stdout
