"""The API's documentation at `/scalar`, served from this machine alone.

Scalar's script comes from the installed package `flask-openapi-scalar`, of which only that file is
used: importing it would need Flask, which the project leaves out. The page contacts no other
server: fonts, telemetry and hosted features are switched off, and the service's content security
policy allows requests to this service only.
"""

import html
import json
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from fastapi import APIRouter, FastAPI
from fastapi.responses import FileResponse, HTMLResponse

from kit.settings import StartupError, settings

PACKAGE = "flask-openapi-scalar"
OPENAPI_URL = "/openapi.json" if settings.shows_api_docs else None
"""For `FastAPI(openapi_url=…)`: the schema is hidden together with the page."""

CONFIGURATION = {
    "withDefaultFonts": False,  # they would come from fonts.scalar.com
    "telemetry": False,
    "agent": {"disabled": True},  # sends questions to api.scalar.com
    "mcp": {"disabled": True},
    "hideClientButton": True,  # opens client.scalar.com
    "showDeveloperTools": "never",
    "defaultHttpClient": {"targetKey": "shell", "clientKey": "curl"},
}
"""See https://github.com/scalar/scalar/blob/main/documentation/configuration.md"""

ONE_YEAR_SECONDS = 31_536_000


def setup_api_docs(application: FastAPI) -> None:
    """Serve `/scalar`, unless `API_DOCS` hides it; in local also what is live on the start page.

    Raises:
        StartupError: when Scalar's script is not installed.
    """
    if settings.is_local:
        from kit.live import setup_live  # noqa: PLC0415 (elsewhere it costs nothing)

        setup_live(application)
    if not settings.shows_api_docs:
        return
    script = find_script()
    page = _page(application.title, version(PACKAGE))
    router = APIRouter(include_in_schema=False)

    @router.get("/scalar")
    async def read_api_docs() -> HTMLResponse:
        return HTMLResponse(page)

    @router.get("/scalar/scalar.js")
    async def read_scalar_script() -> FileResponse:
        # The page requests it with the package's version, so a new one has a new address.
        caching = f"public, max-age={ONE_YEAR_SECONDS}, immutable"
        return FileResponse(
            script, media_type="text/javascript", headers={"Cache-Control": caching}
        )

    application.include_router(router)


def find_script() -> Path:
    """Find Scalar's script in the installed package.

    Raises:
        StartupError: when the package is missing or no longer contains it.
    """
    spec = find_spec(PACKAGE.replace("-", "_"))
    folders = (spec and spec.submodule_search_locations) or []
    for folder in folders:
        path = Path(folder) / "templates" / "scalar" / "js" / "scalar.standalone.js"
        if path.is_file():
            return path
    raise StartupError(
        f"the script of the page /scalar is missing: the package {PACKAGE} is not installed. "
        "Run `uv sync`, or set API_DOCS=false to do without the page."
    )


def _page(title: str, script_version: str) -> str:
    # Addresses are relative, so that the page also works under a proxy's path prefix.
    configuration = html.escape(json.dumps(CONFIGURATION))
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(title)} API</title>
<link rel="icon" href="static/favicon.svg">
</head>
<body>
<script id="api-reference" data-url="openapi.json" data-configuration="{configuration}"></script>
<script src="scalar/scalar.js?version={script_version}"></script>
</body>
</html>
"""
