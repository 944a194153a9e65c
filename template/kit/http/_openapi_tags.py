"""Tags of the API's documentation, and the navigation that groups them.

The service's routers take their tags from `app/core/openapi_tags.py`. An extension's router needs
only a tag of its own: its group in the navigation is made from the tags of its routes.
"""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from kit.errors import document_problems
from kit.extensions import load_extensions, public_name
from kit.places import service
from kit.security import ANONYMOUS_USERS, PROGRAMS, USERS, routes_and_callers
from kit.settings import settings

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
            schema = get_openapi(
                title=application.title,
                version=application.version,
                description=application.description,
                routes=application.routes,
            )
            document_callers(schema, application)
            group_tags(schema, _extension_groups())
            document_problems(schema)
            application.openapi_schema = schema
        return application.openapi_schema

    # FastAPI's own way: https://fastapi.tiangolo.com/how-to/extending-openapi/
    application.openapi = openapi  # type: ignore[method-assign]


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
