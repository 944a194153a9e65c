"""Pages: each answers, and loads nothing that its Content-Security-Policy forbids."""

import re
from collections.abc import Iterator

import httpx
import pytest
from fastapi.routing import APIRoute

from app.api.pages import router
from app.main import app
from kit.admin import require_admin
from kit.security import Principal

PAGES = [
    route.path
    for route in router.routes
    if isinstance(route, APIRoute) and "GET" in (route.methods or ()) and "{" not in route.path
]


@pytest.fixture
def logged_in() -> Iterator[None]:
    """Open pages that need an administrator."""
    tester = Principal(kind="administrator", id="1", name="tester")
    app.dependency_overrides[require_admin] = lambda: tester
    yield
    app.dependency_overrides.pop(require_admin, None)


@pytest.mark.usefixtures("logged_in")
@pytest.mark.parametrize("path", PAGES)
class TestEveryPage:
    async def test_answers(self, client: httpx.AsyncClient, path: str) -> None:
        answer = await client.get(path)

        if not answer.is_redirect:  # to a log-in
            assert answer.status_code == 200
            assert answer.headers["Content-Type"].startswith("text/html")

    async def test_has_no_style_or_script_of_its_own(
        self, client: httpx.AsyncClient, path: str
    ) -> None:
        page = (await client.get(path)).text

        assert " style=" not in page
        assert not re.search(r"<script(?![^>]* src=)", page)

    async def test_loads_what_is_there(self, client: httpx.AsyncClient, path: str) -> None:
        page = (await client.get(path)).text

        for url in re.findall(r'(?:<script[^>]* src|<link[^>]* href)="(http://test[^"]*)"', page):
            assert (await client.get(url)).status_code == 200, url


async def test_a_missing_page_is_a_page(client: httpx.AsyncClient) -> None:
    answer = await client.get("/nowhere", headers={"Accept": "text/html"})

    assert answer.status_code == 404
    assert answer.headers["Content-Type"].startswith("text/html")
