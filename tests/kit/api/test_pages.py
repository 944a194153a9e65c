import re
from collections.abc import AsyncIterator
from html import unescape

import httpx
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from app.api import pages
from app.core.config import BASE_DIR, settings
from app.core.templates import templates
from app.main import app


def changed(monkeypatch: pytest.MonkeyPatch, **values: object) -> None:
    monkeypatch.setattr(pages, "settings", settings.model_copy(update=values))


class TestStartPage:
    async def test_refuses_other_methods(self, client: httpx.AsyncClient) -> None:
        assert (await client.post("/")).status_code == 405

    async def test_needs_no_principal(self, client: httpx.AsyncClient) -> None:
        answer = await client.get("/", headers={"Authorization": "Bearer wrong"})
        assert answer.status_code == 200
        assert answer.headers["Content-Type"].startswith("text/html")

    async def test_leads_to_the_parts(self, client: httpx.AsyncClient) -> None:
        page = (await client.get("/")).text
        assert settings.PROJECT_NAME in unescape(page)
        assert 'data-health="/health/ready"' in page
        for url in ("/scalar", "/admin", f"http://127.0.0.1:{settings.FLOWER_PORT}"):
            assert f'href="{url}"' in page

    async def test_outside_local_leads_to_nothing_that_is_not_there(
        self, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        changed(monkeypatch, ENVIRONMENT="production")
        page = (await client.get("/")).text
        assert 'href="/admin"' in page
        assert "/scalar" not in page
        assert "127.0.0.1" not in page

    async def test_escapes_names(
        self, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        hostile = 'Ünïcode <script>alert(1)</script> & "quotes"'
        changed(monkeypatch, PROJECT_DESCRIPTION=hostile)
        monkeypatch.setitem(templates.env.globals, "project_name", hostile)
        monkeypatch.setattr(templates.env, "cache", None)
        page = (await client.get("/")).text
        assert "<script>alert" not in page
        assert page.count("Ünïcode &lt;script&gt;alert(1)&lt;/script&gt; &amp;") == 4

    async def test_is_not_in_the_schema(self) -> None:
        assert "/" not in app.openapi()["paths"]


class TestBelowARootPath:
    """As a proxy has it that serves the service at /shop, and a server with that root path."""

    @pytest.fixture
    async def http(self, emptied_engine: AsyncEngine) -> AsyncIterator[httpx.AsyncClient]:
        transport = httpx.ASGITransport(app=app, root_path="/shop")
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
            yield http

    @pytest.mark.parametrize("path", ["/shop/", "/shop/nowhere", "/shop/static/nowhere.css"])
    async def test_every_link_stays_below_it(self, http: httpx.AsyncClient, path: str) -> None:
        page = (await http.get(path, headers={"Accept": "text/html"})).text
        addresses = re.findall(r'(?:href|src|data-health)="(?:http://test)?(/[^"]*)"', page)
        assert len(addresses) > 3
        assert [each for each in addresses if not each.startswith("/shop/")] == []

    async def test_its_pages_are_found(self, http: httpx.AsyncClient) -> None:
        page = (await http.get("/shop/")).text
        for link in re.findall(r'<a [^>]*href="(/[^"]*)"', page):
            assert (await http.get(link, follow_redirects=True)).status_code == 200, link

    async def test_an_error_of_the_api_is_no_page(self, http: httpx.AsyncClient) -> None:
        answer = await http.get("/shop/api/nowhere", headers={"Accept": "text/html"})
        assert answer.headers["Content-Type"] == "application/problem+json"


class TestEveryPage:
    @pytest.mark.parametrize("path", ["/", "/nowhere"])
    async def test_calls_nobody_else_and_runs_no_inline_script(
        self, client: httpx.AsyncClient, path: str
    ) -> None:
        page = (await client.get(path, headers={"Accept": "text/html"})).text
        assert "default-src 'self'" in page
        assert " style=" not in page
        assert not re.search(r"<script(?![^>]* src=)", page)
        loaded = re.findall(r'(?:src|<link[^>]* href)="([^"]+)"', page)
        assert loaded
        for url in loaded:
            assert url.startswith(("http://test/static/", "http://test/admin/_kit/"))
            assert (await client.get(url)).status_code == 200

    async def test_links_to_static_files_by_name(self, client: httpx.AsyncClient) -> None:
        page = (await client.get("/")).text
        assert 'href="http://test/static/css/style.css"' in page
        assert (BASE_DIR / "static/css/style.css").is_file()


async def test_a_missing_page_is_a_page(client: httpx.AsyncClient) -> None:
    answer = await client.get("/nowhere", headers={"Accept": "text/html"})
    assert answer.status_code == 404
    assert "Not Found" in answer.text
    assert "To the start page" in answer.text
