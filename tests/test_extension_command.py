"""`make extension` in a rendered project: the copy passes every check at once, and works."""

import json
import re
import shutil
import urllib.parse
import urllib.request
from collections.abc import Iterator
from http.cookiejar import CookieJar
from pathlib import Path

import pytest

from tests.installed_servers import free_port
from tests.service import Development, Service, answer_of

pytestmark = [pytest.mark.full, pytest.mark.xdist_group("extension_command")]

NAMES = ("loyalty_points", "a", "l" * 23)
"""One of two words, and the shortest and the longest that there can be: lines wrap anew."""


@pytest.fixture(scope="module")
def extended(service: Service, service_folder: Path) -> Service:
    """The set-up project with extensions of its owner's own."""
    project = service_folder / "extended"
    shutil.copytree(service.folder, project, ignore=shutil.ignore_patterns(".venv", ".data"))
    ports = {"API_PORT": str(free_port()), "FLOWER_PORT": str(free_port())}
    extended = Service(project, service.environment | ports)
    extended.make("setup")
    for name in NAMES:
        extended.make("extension", f"name={name}")
    return extended


def test_it_is_enabled_and_nothing_else_changes(extended: Service) -> None:
    changed = extended.run("git", "status", "--porcelain").splitlines()
    assert {line[3:] for line in changed} - {"uv.lock"} == {
        "pyproject.toml",
        *(f"app/extensions/{name}/" for name in NAMES),
    }
    difference = extended.run("git", "diff", "--unified=0", "pyproject.toml")
    assert re.findall(r"^[+-](?![+-]).*", difference, re.MULTILINE) == [
        f'+    "{name}",' for name in reversed(NAMES)
    ]


def test_its_settings_are_explained(extended: Service) -> None:
    text = (extended.folder / "app/extensions/loyalty_points/.env.example").read_text("utf-8")
    assert "# --- Loyalty Points ---\n" in text
    assert "\n#LOYALTY_POINTS_PAGE_SIZE=50\n" in text


def test_nothing_of_the_skeleton_is_left(extended: Service) -> None:
    folder = extended.folder / "app/extensions/loyalty_points"
    texts = [path for path in folder.rglob("*") if path.suffix in {".py", ".md", ".html"}]
    named = re.compile(r"(?<!\.env\.)example|skeleton", re.IGNORECASE)
    assert texts
    assert [path for path in texts if named.search(path.read_text("utf-8"))] == []
    assert [path for path in folder.rglob("*") if named.search(path.name)] == []


def test_it_passes_the_checks(extended: Service) -> None:
    extended.make("lint", "typecheck")


def test_it_passes_its_tests_and_the_service_its_own(extended: Service) -> None:
    extended.make("test", "args=tests app/extensions kit/tests/test_architecture.py")
    extended.make("test-all", "args=app/extensions/loyalty_points")


def test_its_table_is_made(extended: Service) -> None:
    extended.make("db-upgrade")
    status = extended.make("db-status")
    for name in NAMES:
        assert re.search(rf"^applied +{name} +{name}_0001: ", status, re.MULTILINE)


def test_one_that_left_its_table_is_named_and_can_be_forgotten(extended: Service) -> None:
    left = NAMES[1]
    shutil.rmtree(extended.folder / "app" / "extensions" / left)
    pyproject = extended.folder / "pyproject.toml"
    pyproject.write_text(pyproject.read_text("utf-8").replace(f'    "{left}",\n', ""), "utf-8")
    gone = f"the extension {left} was removed, but the database has its tables"
    refusal = extended.make("db-upgrade", status=2)
    assert gone in refusal
    assert f"make db-forget extension={left}" in refusal
    assert gone in extended.make("db-status")
    assert gone in extended.make("doctor")
    extended.make("db-forget", f"extension={left}")
    assert gone not in extended.make("db-status")
    extended.make("db-upgrade")


@pytest.fixture(scope="module")
def announced(extended: Service) -> Iterator[str]:
    """What `make dev` prints, while it runs."""
    development = Development(extended)
    try:
        yield development.wait_until_ready()
    finally:
        development.interrupt()


def find(pattern: str, text: str) -> tuple[str, ...]:
    """What the groups of the pattern match, which has to be there."""
    found = re.search(pattern, text)
    assert found
    return found.groups()


@pytest.fixture(scope="module")
def api(announced: str) -> str:
    """Where the service answers."""
    return find(r"Service\s+(http\S+)", announced)[0]


def test_its_api_and_its_page_answer(api: str, announced: str) -> None:
    [token] = find(r"API token\s+(\S+)", announced)
    status, note = answer_of(f"{api}/api/loyalty_points/notes", {"title": "Stamps"}, token)
    assert (status, json.loads(note)["title"]) == (201, "Stamps")
    status, page = answer_of(f"{api}/loyalty_points/notes")
    assert status == 200
    assert "Stamps" in page


def test_it_has_a_group_of_its_own_in_the_documentation(api: str) -> None:
    schema = json.loads(answer_of(f"{api}/openapi.json")[1])
    groups = {group["name"]: group["tags"] for group in schema["x-tagGroups"]}
    assert groups["Loyalty Points"] == ["Loyalty Points notes"]
    assert {"Core", "Loyalty Points", "L" + "l" * 22} <= set(groups)


def test_the_admin_lists_its_table(api: str, announced: str) -> None:
    username, password = find(r"Admin\s+\S+\s+(\S+) / (\S+)", announced)
    form = urllib.parse.urlencode({"username": username, "password": password}).encode()
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
    browser.open(f"{api}/admin/login", form, timeout=10).close()
    with browser.open(f"{api}/admin/loyalty-points-note/list", timeout=10) as answer:
        page = answer.read().decode()
    assert "Loyalty Points" in page
    assert "Stamps" in page
