"""The documentation's navigation: every route is in a group, an extension's in its own."""

import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI
from fastapi.testclient import TestClient
from fastapi.utils import generate_unique_id

from app.core import openapi_tags
from app.core.config import settings
from app.core.openapi_tags import APITag
from app.main import app
from kit.extensions import enabled_extensions
from kit.http import clashing_operations, middleware_stack, setup_openapi
from kit.http._openapi import extension_prefix, extension_title, group_tags

HOTEL = {"/api/hotel": ("Hotel", "Rooms and who sleeps in them.")}


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    return app.openapi()


def operations(schema: dict[str, Any]) -> list[dict[str, Any]]:
    return [operation for path in schema["paths"].values() for operation in path.values()]


class TestGroupTags:
    def group(self, paths: Mapping[str, Sequence[str] | None]) -> dict[str, Any]:
        schema: dict[str, Any] = {"paths": {}}
        for path, tags in paths.items():
            schema["paths"][path] = {"get": {} if tags is None else {"tags": list(tags)}}
        group_tags(schema, HOTEL)
        return schema

    def test_untagged_routes_get_their_groups_name(self) -> None:
        schema = self.group({"/api/x": None, "/api/hotel/rooms": None})
        assert schema["x-tagGroups"] == [
            {"name": settings.PROJECT_NAME, "tags": [settings.PROJECT_NAME]},
            {"name": "Hotel", "tags": ["Hotel"]},
        ]
        assert schema["paths"]["/api/hotel/rooms"]["get"]["tags"] == ["Hotel"]

    def test_a_prefix_is_a_whole_part_of_the_path(self) -> None:
        schema = self.group({"/api/hotels": ["Chains"], "/api/hotel": ["Rooms"]})
        assert schema["x-tagGroups"] == [
            {"name": settings.PROJECT_NAME, "tags": ["Chains"]},
            {"name": "Hotel", "tags": ["Rooms"]},
        ]

    def test_a_group_keeps_its_order_and_own_tags_stand_in_the_services(self) -> None:
        schema = self.group({"/a": ["Own"], "/b": [APITag.TASKS], "/c": [APITag.HEALTH]})
        assert schema["x-tagGroups"] == [
            {"name": "Core", "tags": ["Health", "Tasks"]},
            {"name": settings.PROJECT_NAME, "tags": ["Own"]},
        ]

    def test_own_tags_come_in_the_order_of_their_descriptions_and_in_own_groups(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for tag in ("Orders", "Invoices", "Stock"):
            monkeypatch.setitem(openapi_tags.DESCRIPTIONS, tag, f"{tag}.")
        monkeypatch.setitem(openapi_tags.GROUPS, "Warehouse", ["Stock"])
        schema = self.group({"/a": ["Invoices"], "/b": ["Stock"], "/c": ["Orders"]})
        assert schema["x-tagGroups"] == [
            {"name": "Warehouse", "tags": ["Stock"]},
            {"name": settings.PROJECT_NAME, "tags": ["Orders", "Invoices"]},
        ]

    def test_descriptions(self) -> None:
        schema = self.group({"/a": [APITag.HEALTH], "/api/hotel/rooms": ["Rooms"]})
        by_name = {tag["name"]: tag["description"] for tag in schema["tags"]}
        assert by_name["Rooms"] == "Rooms and who sleeps in them."
        assert by_name["Health"]


class TestOperationIds:
    @pytest.fixture
    def application(self) -> FastAPI:
        application = FastAPI(middleware=middleware_stack())
        setup_openapi(application)
        return application

    def ids(self, application: FastAPI) -> dict[str, str]:
        return {
            f"{method} {path}": operation["operationId"]
            for path, operations in application.openapi()["paths"].items()
            for method, operation in operations.items()
        }

    def test_are_the_functions_names_and_an_extension_s_begin_with_its_own(self) -> None:
        ids = self.ids(app)
        assert ids["get /api/tasks/{task_id}"] == "readTask"
        assert ids["post /api/example/notes"] == "exampleCreateNote"
        assert ids["post /api/example/notes/{note_id}/word-count"] == "exampleRecountWords"

    def test_an_owner_s_own_stay(self, application: FastAPI) -> None:
        router = APIRouter(generate_unique_id_function=lambda route: f"{route.name}!")
        router.get("/a")(read_order)
        application.include_router(router, prefix="/api")
        application.get("/api/b", operation_id="read-order")(read_order)
        application.get("/api/c", name="the 2nd_order")(read_order)
        application.get("/api/d")(read_order)
        assert self.ids(application) == {
            "get /api/a": "read_order!",
            "get /api/b": "read-order",
            "get /api/c": "the2ndOrder",
            "get /api/d": "readOrder",
        }
        assert [*clashing_operations(application)] == []

    def test_fastapi_s_can_be_kept(self) -> None:
        """For callers whose clients were generated from them."""
        application = FastAPI(generate_unique_id_function=generate_unique_id)
        setup_openapi(application)
        router = APIRouter(prefix="/v1")
        router.get("/orders")(list_orders)
        application.include_router(router, prefix="/api")
        assert self.ids(application) == {"get /api/v1/orders": "list_orders_api_v1_orders_get"}

    @pytest.mark.parametrize("order", [1, -1])
    def test_those_that_clash_have_their_paths_and_are_logged_at_start(
        self, application: FastAPI, order: int, caplog: pytest.LogCaptureFixture
    ) -> None:
        application.get("/orders")(read_order)
        for path in ("/api/v1/orders", "/api/v2/orders")[::order]:
            application.get(path)(list_orders)
        application.api_route("/api/sync", methods=["PUT", "POST"])(sync_orders)
        expected = {
            "get /orders": "readOrder",
            "get /api/v1/orders": "listOrdersApiV1OrdersGet",
            "get /api/v2/orders": "listOrdersApiV2OrdersGet",
            "post /api/sync": "syncOrdersApiSyncPost",
            "put /api/sync": "syncOrdersApiSyncPut",
        }
        assert self.ids(application) == expected
        with TestClient(application):
            pass
        logged = [each for each in caplog.messages if "operation id" in each]
        assert len(logged) == 2
        place = r"GET /api/v1/orders, `list_orders` \(\S+test_openapi_tags\.py:\d+\)"
        assert re.search(place, "".join(logged))
        assert "POST /api/sync, `sync_orders`" in "".join(logged)

    def test_an_endpoint_without_a_file_can_clash_as_well(self, application: FastAPI) -> None:
        endpoint = partial(list_orders)
        for path in ("/a", "/b"):
            application.get(path, name="both")(endpoint)
        (told,) = clashing_operations(application)
        assert "GET /a, functools.partial" in told


def read_order() -> None: ...


def list_orders() -> None: ...


def sync_orders() -> None: ...


class TestService:
    def test_every_operation_is_in_a_group(self, schema: dict[str, Any]) -> None:
        grouped = {tag for group in schema["x-tagGroups"] for tag in group["tags"]}
        assert {tag for operation in operations(schema) for tag in operation["tags"]} == grouped
        assert {tag["name"] for tag in schema["tags"]} == grouped

    def test_every_core_tag_is_used_and_described(self, schema: dict[str, Any]) -> None:
        described = {tag["name"] for tag in schema["tags"] if tag["description"]}
        assert set(APITag) <= described

    def test_extensions_have_their_own_groups(self, schema: dict[str, Any]) -> None:
        names = [group["name"] for group in schema["x-tagGroups"]]
        paths = schema["paths"]
        with_api = [
            name
            for name in enabled_extensions()
            if any(path.startswith(f"/api{extension_prefix(name)}/") for path in paths)
        ]
        assert "_example" in with_api
        # Routes that other tests add to the application stand in the service's group.
        others = [name for name in names if name != settings.PROJECT_NAME]
        assert others == ["Core", *map(extension_title, with_api)]

    def test_every_operation_documents_its_errors(self, schema: dict[str, Any]) -> None:
        reference = {"$ref": "#/components/schemas/ProblemDetails"}
        content = {"application/problem+json": {"schema": reference}}
        for operation in operations(schema):
            assert operation["responses"]["default"]["content"] == content
            if "422" in operation["responses"]:
                assert operation["responses"]["422"]["content"] == content

    def test_all_references_lead_somewhere(self, schema: dict[str, Any]) -> None:
        known = {f"#/components/schemas/{name}" for name in schema["components"]["schemas"]}
        assert set(_references(schema)) <= known
        assert "#/components/schemas/ProblemDetails" in known
        assert "#/components/schemas/HTTPValidationError" not in known


def _references(part: Any) -> list[str]:
    if isinstance(part, dict):
        own = [part["$ref"]] if isinstance(part.get("$ref"), str) else []
        return own + [found for value in part.values() for found in _references(value)]
    if isinstance(part, list):
        return [found for value in part for found in _references(value)]
    return []
