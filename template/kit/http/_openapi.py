"""The API's document, and the page at `/scalar` that shows it, served from this machine alone.

The document has names of operations, tags, and the navigation that groups them. The service's
routers take their tags from `app/core/openapi_tags.py`. An extension's router needs only a tag of
its own: its group in the navigation is made from the tags of its routes.

Scalar's script comes from the installed package `flask-openapi-scalar`, of which only that file is
used: importing it would need Flask, which the project leaves out. The page contacts no other
server: fonts, telemetry and hosted features are switched off, and the service's content security
policy allows requests to this service only.
"""

import html
import json
import re
import warnings
from collections import defaultdict
from collections.abc import Iterator
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.datastructures import DefaultPlaceholder
from fastapi.openapi.utils import get_openapi
from fastapi.responses import FileResponse, HTMLResponse
from fastapi.routing import APIRoute, RouteContext, iter_route_contexts

from kit.errors import document_problems
from kit.extensions import load_extensions, public_name
from kit.lifespan import place_of
from kit.places import service
from kit.security import ANONYMOUS_USERS, PROGRAMS, USERS, routes_and_callers
from kit.settings import StartupError, settings

_ACCESS_TOKEN = ("Access token", "Of a user's session in Supabase Auth.")
SCHEMES = {
    PROGRAMS: ("API token", "A token that `make token` printed."),
    USERS: _ACCESS_TOKEN,
    ANONYMOUS_USERS: _ACCESS_TOKEN,
}
"""Names and descriptions of security schemes."""


def setup_openapi(application: FastAPI) -> None:
    """Add tag groups and the problem document to the application's OpenAPI schema.

    The schema is made at the first request for it, and cached.
    """

    def openapi() -> dict[str, Any]:
        if application.openapi_schema is None:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Duplicate Operation ID")  # `name_operations`
                schema = get_openapi(
                    title=application.title,
                    version=application.version,
                    description=application.description,
                    routes=application.routes,
                )
            name_operations(schema, application)
            document_callers(schema, application)
            group_tags(schema, _extension_groups())
            document_problems(schema)
            application.openapi_schema = schema
        return application.openapi_schema

    # FastAPI's own way: https://fastapi.tiangolo.com/how-to/extending-openapi/
    application.openapi = openapi  # type: ignore[method-assign]


Operation = tuple[str, str]
"""Path and method, in lower case."""


def name_operations(schema: dict[str, Any], application: FastAPI) -> None:
    """Give each operation the id by which generated clients call it.

    It is the function's name, `createInvoice`, and an extension's begins with the extension's,
    `hotelCreateRoom`, so that no extension changes the ids of others. `operation_id=` of a route,
    and a `generate_unique_id_function`, take its place. Operations that would have the same id
    have their paths and methods in it.
    """
    for name, operations in _named_operations(application):
        for (path, method), route in operations.items():
            if not _is_named_by_owner(route):
                long = _camel_case(f"{route.name}{path} {method}")
                operation = schema["paths"][path][method]
                operation["operationId"] = name if len(operations) == 1 else long


def clashing_operations(application: FastAPI) -> Iterator[str]:
    """Describe the operations that would have the same id, each with its function and file."""
    for name, operations in _named_operations(application):
        if len(operations) > 1:
            places = [
                f"{method.upper()} {path}, {place_of(route.endpoint)}"
                for (path, method), route in operations.items()
            ]
            yield (
                f"rename a function, or set `operation_id=` at its route: {' and '.join(places)} "
                f"would have the same operation id, {name}; their paths are in it instead"
            )


def _named_operations(
    application: FastAPI,
) -> Iterator[tuple[str, dict[Operation, RouteContext]]]:
    """Yield each id with the operations that it is meant for."""
    documented: dict[Operation, RouteContext] = {
        (route.path_format or "", method.lower()): route
        for route in iter_route_contexts(application.routes)
        if isinstance(route.original_route, APIRoute) and route.include_in_schema
        for method in sorted(route.methods or ())
    }
    named: defaultdict[str, dict[Operation, RouteContext]] = defaultdict(dict)
    prefixes = _extension_groups()
    for (path, method), route in documented.items():
        prefix = next((each for each in prefixes if path.startswith(f"{each}/")), "/api")
        words = f"{prefix.removeprefix('/api')} {route.name}"
        name = route.unique_id if _is_named_by_owner(route) else _camel_case(words)
        named[name][path, method] = route
    yield from named.items()


def _is_named_by_owner(route: RouteContext) -> bool:
    is_default = isinstance(route.generate_unique_id_function, DefaultPlaceholder)
    return bool(route.operation_id) or not is_default


def _camel_case(words: str) -> str:
    joined = "".join(f"{each[0].upper()}{each[1:]}" for each in re.findall(r"[^\W_]+", words))
    return f"{joined[:1].lower()}{joined[1:]}"


def document_callers(schema: dict[str, Any], application: FastAPI) -> None:
    """Add to each operation whom it serves: credentials and scopes, and a line for people."""
    schemes = schema.setdefault("components", {}).setdefault("securitySchemes", {})
    for context, policy in routes_and_callers(application):
        operations = schema["paths"].get(context.path_format, {})
        for operation in map(operations.get, map(str.lower, context.methods or ())):
            if not operation or not policy:
                continue
            text = operation.get("description", "")
            operation["description"] = f"{text}\n\nServes {policy}.".lstrip()
            for kind in filter(SCHEMES.get, policy.kinds):
                name, description = SCHEMES[kind]
                requirement = {name: [policy.scope] if kind == PROGRAMS else []}
                if requirement not in operation.setdefault("security", []):
                    operation["security"].append(requirement)
                scheme = {"type": "http", "scheme": "bearer", "description": description}
                schemes.setdefault(name, scheme)


def extension_prefix(extension: str) -> str:
    """Path of an extension's pages, and after `/api` of its API: `/hotel`, for `_hotel` too."""
    return f"/{public_name(extension)}"


def extension_title(extension: str) -> str:
    """An extension's name for people: `loyalty_points` is `Loyalty Points`."""
    return public_name(extension).replace("_", " ").title()


def group_tags(schema: dict[str, Any], extension_groups: dict[str, tuple[str, str]]) -> None:
    """Add `tags` and `x-tagGroups` to an OpenAPI schema.

    An operation without a tag gets its group's name as its tag: with `x-tagGroups`, Scalar leaves
    out all that is in no group.

    Args:
        schema: the OpenAPI schema, changed in place.
        extension_groups: path prefix, as `/api/hotel`, to the group's title and description.
    """
    named = {tag: title for title, tags in service.tag_groups.items() for tag in tags}
    titles = [*service.tag_groups, own_group(), *(title for title, _ in extension_groups.values())]
    groups: dict[str, list[str]] = {title: [] for title in titles}
    descriptions = dict(service.tag_descriptions)
    for path, operations in schema["paths"].items():
        prefix = next((p for p in extension_groups if f"{path}/".startswith(f"{p}/")), None)
        title, description = extension_groups[prefix] if prefix else (own_group(), "")
        for operation in operations.values():
            for tag in operation.setdefault("tags", [title]):
                group = groups[title if prefix else named.get(tag, title)]
                if tag not in group:
                    group.append(tag)
                if prefix:
                    descriptions.setdefault(tag, description)
    order = [*named, *service.tag_descriptions]
    for title in (*service.tag_groups, own_group()):
        groups[title].sort(key=lambda tag: order.index(tag) if tag in order else len(order))
    used = {title: tags for title, tags in groups.items() if tags}
    names = dict.fromkeys(tag for tags in used.values() for tag in tags)
    schema["tags"] = [{"name": tag, "description": descriptions.get(tag, "")} for tag in names]
    schema["x-tagGroups"] = [{"name": title, "tags": tags} for title, tags in used.items()]


def own_group() -> str:
    """Name of the group for the service's own tags that are in no other: the service's name."""
    return settings.PROJECT_NAME


def _extension_groups() -> dict[str, tuple[str, str]]:
    """For each extension with an API: the prefix of its paths, and its title and description."""
    groups = {}
    for hook in load_extensions("api"):
        first_line = (hook.module.__doc__ or "").strip().partition("\n")[0]
        prefix = f"/api{extension_prefix(hook.extension)}"
        groups[prefix] = (extension_title(hook.extension), first_line)
    return groups


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
