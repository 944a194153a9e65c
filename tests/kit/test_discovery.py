"""What an owner lays into a folder, or a folder below it, is found."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI

from kit.admin import model_views, setup_admin
from kit.discovery import import_modules
from kit.http import build_api_router
from kit.settings import StartupError

VIEW = """
from sqladmin import ModelView

from kit.models import {model}


class Own{model}Admin(ModelView, model={model}):
    column_list = ("id",)
    can_create = can_edit = False
    column_details_list = ("id",)
    column_export_list = ("id",)
    column_import_list = ("id",)
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package `shop` of the test's own."""
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    yield folder
    for name in [name for name in sys.modules if name.partition(".")[0] == "shop"]:
        del sys.modules[name]


def put(folder: Path, name: str, text: str = "") -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_modules_of_subfolders_are_imported_with_or_without_init(package: Path) -> None:
    put(package, "orders.py")
    put(package, "stock/__init__.py")
    put(package, "stock/levels.py")
    put(package, "billing/orders.py")

    found = [module.__name__ for module in import_modules("shop")]

    assert found == ["shop.billing.orders", "shop.orders", "shop.stock", "shop.stock.levels"]


def test_what_is_left_out_is_left_out_at_the_top_alone(package: Path) -> None:
    put(package, "schedules.py", "raise RuntimeError")
    put(package, "billing/schedules.py")

    found = [module.__name__ for module in import_modules("shop", but=("schedules",))]

    assert found == ["shop.billing.schedules"]


def test_a_route_in_a_subfolder_is_served(package: Path) -> None:
    route = (
        "from fastapi import APIRouter\nrouter = APIRouter()\n@router.get('/{0}')\ndef r(): ...\n"
    )
    put(package, "v1/stock.py", route.format("stock"))

    api = FastAPI()
    api.include_router(build_api_router("shop"))

    assert "/api/stock" in api.openapi()["paths"]


def test_a_router_that_its_package_includes_is_served_there_alone(package: Path) -> None:
    route = "from fastapi import APIRouter\nrouter = APIRouter({0})\n"
    served = "@router.get('/stock')\ndef r(): ...\n"
    include = "from shop.v1 import stock\nrouter.include_router(stock.router)\n"
    put(package, "v1/stock.py", route.format("") + served)
    put(package, "v1/__init__.py", route.format("prefix='/v1'") + include)
    put(package, "v2.py", "from shop.v1.stock import router")

    api = FastAPI()
    api.include_router(build_api_router("shop"))

    assert [path for path in api.openapi()["paths"] if "stock" in path] == ["/api/v1/stock"]


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("import json\n\nfrom json import nothing_such\n", 3, "ImportError: cannot import name"),
        ("\nx = (\n", 2, "SyntaxError: "),
        ("import json\nx = json.loads('')\n", 2, "JSONDecodeError: Expecting value"),
    ],
)
def test_a_module_that_fails_to_import_is_named_with_its_line(
    package: Path, text: str, line: int, reason: str
) -> None:
    put(package, "stock/levels.py", text)

    with pytest.raises(StartupError) as failed:
        import_modules("shop")

    assert "cannot import shop.stock.levels: " in str(failed.value)
    assert f"shop/stock/levels.py:{line}: {reason}" in str(failed.value)


def test_a_view_in_a_module_of_its_own_is_shown_instead_of_the_kits(package: Path) -> None:
    put(package, "access/tokens.py", VIEW.format(model="ApiToken"))

    application = FastAPI()
    setup_admin(application, "shop")

    shown = [type(view).__name__ for view in model_views(application)]
    assert "OwnApiTokenAdmin" in shown
    assert "ApiTokenAdmin" not in shown
    assert "AdminUserAdmin" in shown
