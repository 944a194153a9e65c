"""The page /scalar works without any other machine, and stays hidden where it should."""

import html
import json
import re
import subprocess
import sys

import httpx
import pytest
from fastapi import FastAPI

from app.core.config import StartupError, settings
from kit.http import _openapi as api_docs
from kit.http._openapi import find_script, setup_api_docs


async def get(app: FastAPI, path: str) -> httpx.Response:
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        return await client.get(path)


def application(monkeypatch: pytest.MonkeyPatch, **changes: object) -> FastAPI:
    monkeypatch.setattr(api_docs, "settings", settings.model_copy(update=changes))
    app = FastAPI(title="Rooms & <more>", docs_url=None, redoc_url=None)
    setup_api_docs(app)
    return app


@pytest.mark.parametrize(
    ("environment", "api_docs", "shown"),
    [
        ("production", None, False),
        ("production", True, True),
        ("staging", None, True),
        ("local", None, True),
        ("local", False, False),
    ],
)
async def test_is_hidden_in_production_unless_it_is_told(
    monkeypatch: pytest.MonkeyPatch, environment: str, *, api_docs: bool | None, shown: bool
) -> None:
    changes = {"ENVIRONMENT": environment, "API_DOCS": api_docs}
    assert settings.model_copy(update=changes).shows_api_docs is shown
    app = application(monkeypatch, **changes)
    for path in ("/scalar", "/scalar/scalar.js"):
        assert (await get(app, path)).status_code == (200 if shown else 404)


async def test_swagger_and_redoc_are_off(client: httpx.AsyncClient) -> None:
    for path in ("/docs", "/redoc"):
        assert (await client.get(path)).status_code == 404
    assert (await client.get("/openapi.json")).status_code == 200
    assert (await client.get("/scalar")).status_code == 200


async def test_the_page_names_no_other_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = await get(application(monkeypatch), "/scalar")
    assert "://" not in answer.text
    assert "//" not in re.sub(r"<!.*?>", "", answer.text)
    assert "://" not in settings.API_CONTENT_SECURITY_POLICY


async def test_the_page_is_configured_and_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = await get(application(monkeypatch), "/scalar")
    assert "<title>Rooms &amp; &lt;more&gt; API</title>" in answer.text
    found = re.search(r'data-configuration="([^"]*)"', answer.text)
    assert found
    configuration = json.loads(html.unescape(found[1]))
    assert configuration["telemetry"] is False
    assert configuration["withDefaultFonts"] is False


async def test_the_script_may_be_kept_by_browsers(monkeypatch: pytest.MonkeyPatch) -> None:
    app = application(monkeypatch)
    page = (await get(app, "/scalar")).text
    found = re.search(r'src="([^"]+)"', page)
    assert found
    script = await get(app, f"/{found[1]}")
    assert script.headers["content-type"].startswith("text/javascript")
    assert "immutable" in script.headers["Cache-Control"]
    assert script.headers["ETag"]
    assert len(script.content) > 1_000_000


def test_a_missing_script_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_docs, "PACKAGE", "not-installed-anywhere")
    with pytest.raises(StartupError, match=r"not-installed-anywhere is not installed.*API_DOCS"):
        find_script()


@pytest.mark.slow
def test_the_script_is_found_without_flask() -> None:
    code = "import sys; from kit.http._openapi import find_script; find_script(); "
    code += "print([name for name in sys.modules if name.startswith('flask')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
