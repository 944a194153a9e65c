import sys
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles
from sqladmin import BaseView, ModelView, action, expose
from sqladmin.filters import AllUniqueStringValuesFilter, BooleanFilter, ForeignKeyFilter
from sqlalchemy import create_engine, event
from sqlalchemy.exc import OperationalError
from sqlmodel import Session
from starlette.requests import Request
from starlette.responses import Response
from wtforms import StringField

from app.core.config import BASE_DIR, StartupError, settings
from kit import extensions, pages
from kit.admin import IsSetFilter, _setup, short_time
from kit.admin._audit import admin_session_maker
from kit.admin._setup import ServiceAdmin, register_views
from kit.extensions import ExtensionError
from kit.models import AdminUser, ApiToken


@pytest.fixture
def admin() -> ServiceAdmin:
    """An admin of its own, without log-in and without views."""
    app = FastAPI()
    app.mount("/static", StaticFiles(directory=BASE_DIR / "static"), name="static")
    made = ServiceAdmin(app, session_maker=admin_session_maker)
    made.admin.add_exception_handler(Exception, made.show_failure)
    return made


@pytest.fixture
async def http(admin: ServiceAdmin, sync_db_session: Session) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=admin.app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


class TestSensitiveColumns:
    @pytest.mark.parametrize(
        ("option", "value"),
        [
            ("column_list", ("username", "password_hash")),
            ("column_details_list", "__all__"),
            ("column_export_list", ["password_hash"]),
            ("form_columns", ("password_hash",)),
            ("column_searchable_list", ("password_hash",)),
            ("column_sortable_list", (AdminUser.password_hash,)),
        ],
    )
    def test_a_view_that_shows_one_is_refused(
        self, admin: ServiceAdmin, option: str, value: Any
    ) -> None:
        harmless: dict[str, Any] = {
            "column_list": ("username",),
            "column_details_list": ("username",),
            "form_columns": ("username",),
        }
        metaclass: Any = type(ModelView)
        options = harmless | {option: value}
        view = metaclass("LooseView", (ModelView,), options, model=AdminUser)
        with pytest.raises(StartupError, match=rf"LooseView shows password_hash.* set {option} "):
            admin.add_view(view)

    def test_a_view_that_shows_everything_by_default_is_refused(self, admin: ServiceAdmin) -> None:
        class EverythingView(ModelView, model=ApiToken):
            """Without `column_details_list` SQLAdmin shows every column."""

        with pytest.raises(StartupError, match="ApiToken marks as sensitive"):
            admin.add_view(EverythingView)


class TestUnknownNames:
    @pytest.mark.parametrize(
        ("option", "value", "name"),
        [
            ("column_list", ("name", "nmae"), "nmae"),
            ("column_import_exclude_list", ("nmae",), "nmae"),
            ("column_sortable_list", ("nmae",), "nmae"),
            ("column_searchable_list", ("nmae",), "nmae"),
            ("column_default_sort", [("name", True), ("nmae", True)], "nmae"),
            ("column_default_sort", "nmae", "nmae"),
            ("form_columns", ("nmae",), "nmae"),
            ("form_excluded_columns", ("nmae",), "nmae"),
            ("form_overrides", {"nmae": StringField}, "nmae"),
            ("column_filters", [BooleanFilter("nmae")], "nmae"),
            ("column_filters", [IsSetFilter("nmae")], "nmae"),
            ("column_filters", [ForeignKeyFilter("id", "nmae", AdminUser)], "nmae"),
        ],
    )
    def test_are_refused_where_they_stand(
        self, admin: ServiceAdmin, option: str, value: Any, name: str
    ) -> None:
        message = rf"LooseView has '{name}' in {option}, but \w+ has no '{name}'. Write one of id, "
        with pytest.raises(StartupError, match=message):
            admin.add_view(token_view(**{option: value}))

    def test_what_sqladmin_refuses_is_said_of_the_view(self, admin: ServiceAdmin) -> None:
        view = token_view(form_ajax_refs={"owner": {"fields": ("name",)}}, can_create=True)
        with pytest.raises(StartupError, match="LooseView is refused: .*owner is not a relation"):
            admin.add_view(view)

    def test_what_is_computed_and_own_filters_are_none(self, admin: ServiceAdmin) -> None:
        class Recent(BooleanFilter):
            async def get_filtered_query(self, query: Any, value: Any, model: Any) -> Any:
                return query

        admin.add_view(
            token_view(
                column_list=("name", "age", ApiToken.expires_at),
                column_formatters={"age": short_time},
                column_export_list=("name",),
                column_filters=[Recent("recent")],
            )
        )


def token_view(**options: Any) -> Any:
    harmless = {"column_details_list": ("name",), "can_create": False, "can_edit": False}
    metaclass: Any = type(ModelView)
    return metaclass("LooseView", (ModelView,), harmless | options, model=ApiToken)


class TestRegisterViews:
    def test_finds_views_but_no_bases(self, admin: ServiceAdmin) -> None:
        class SharedView(ModelView):
            """Has no model: a base of others."""

        class TokenView(SharedView, model=ApiToken):
            column_details_list = ("name",)
            can_create = can_edit = False

        class PageView(BaseView):
            name = "A page"

            @expose("/page")
            async def page(self, _request: Request) -> Response:
                return Response("page")

        module = ModuleType("views")
        module.__dict__.update(
            ModelView=ModelView, BaseView=BaseView, SharedView=SharedView,
            TokenView=TokenView, PageView=PageView, other=1,
        )  # fmt: skip
        register_views(admin, module)
        shown = [type(view).__name__ for view in admin.views]
        assert shown == ["PageView", "TokenView"]

    async def test_one_of_a_model_kit_has_its_actions(
        self, admin: ServiceAdmin, http: httpx.AsyncClient
    ) -> None:
        class KitView(ModelView, model=ApiToken):
            column_details_list = ("name",)
            can_create = can_edit = False

            @action(name="pack")
            async def pack(self, _request: Request) -> Response:
                return Response("packed")

        KitView.identity = "kit"
        admin.add_view(KitView)
        assert (await http.get("/admin/kit/action/pack?pks=1")).text == "packed"

    async def test_the_core_s_and_the_extensions_are_there(
        self, admin_client: httpx.AsyncClient
    ) -> None:
        page = (await admin_client.get("/admin/")).text
        for name in ("Administrators", "API tokens", "Audit", "Notes"):
            assert name in page


class TestExtensions:
    @pytest.fixture
    def broken(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        """An extension whose admin has no `setup_admin`."""
        folder = tmp_path / "broken" / "admin"
        folder.mkdir(parents=True)
        (tmp_path / "broken" / "__init__.py").touch()
        (folder / "__init__.py").write_text("setup = None\n")
        import app.extensions

        monkeypatch.setattr(app.extensions, "__path__", [str(tmp_path)])
        monkeypatch.setattr(extensions, "EXTENSIONS_DIR", tmp_path)
        enabled = settings.model_copy(update={"ENABLED_EXTENSIONS": ["broken"]})
        monkeypatch.setattr(extensions, "settings", enabled)
        yield
        for name in [name for name in sys.modules if name.startswith("app.extensions.broken")]:
            del sys.modules[name]

    @pytest.mark.usefixtures("broken")
    def test_one_without_setup_admin_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(_setup, "_views_in", lambda _: [])
        with pytest.raises(ExtensionError, match=r"'broken'.*defines no `setup_admin\(admin\)`"):
            _setup.setup_admin(FastAPI(), "app.admin")


class TestTemplates:
    """Extensions before the core before SQLAdmin, and each can build on the next."""

    @pytest.fixture
    def directories(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
        made = [tmp_path / name / "templates" / "sqladmin" for name in ("first", "second")]
        for directory in made:
            directory.mkdir(parents=True)
        parents = [directory.parent for directory in made]
        monkeypatch.setattr(_setup, "extension_template_dirs", lambda: parents)
        return made

    def source(self, name: str) -> str:
        made = ServiceAdmin(
            FastAPI(),
            session_maker=admin_session_maker,
            templates_dir=str(pages.TEMPLATES_DIR),
        )
        loader = made.templates.env.loader
        assert loader
        return loader.get_source(made.templates.env, name)[0]

    @pytest.mark.usefixtures("directories")
    def test_sqladmin_s_own_where_nobody_has_another(self) -> None:
        assert "model_view.name_plural" in self.source("sqladmin/list.html")

    @pytest.mark.usefixtures("directories")
    def test_the_core_s_before_sqladmin_s(self) -> None:
        assert "alone-card" in self.source("sqladmin/login.html")
        assert "alone-card" not in self.source("sqladmin_original/login.html")

    def test_an_extension_s_before_the_core_s(self, directories: list[Path]) -> None:
        (directories[1] / "login.html").write_text("second's")
        assert self.source("sqladmin/login.html") == "second's"
        (directories[0] / "login.html").write_text("first's")
        assert self.source("sqladmin/login.html") == "first's"

    async def test_an_override_is_rendered(self, directories: list[Path]) -> None:
        (directories[0] / "login.html").write_text(
            '{% extends "sqladmin_original/login.html" %}{% block head_tail %}<meta name="mine">'
            "{% endblock %}"
        )
        app = FastAPI()
        app.mount("/static", StaticFiles(directory=BASE_DIR / "static"), name="static")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(_setup, "_views_in", lambda _: [])
            patch.setattr(_setup, "load_extensions", lambda _hook: [])
            _setup.setup_admin(app, "app.admin")
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
            page = (await http.get("/admin/login")).text
        assert '<meta name="mine">' in page
        assert 'name="password"' in page
        assert "kit/admin.css" in page  # the kit's base below SQLAdmin's log-in


class TestEventLoop:
    async def test_no_query_runs_in_it(self, admin: ServiceAdmin, http: httpx.AsyncClient) -> None:
        class TokenView(ModelView, model=ApiToken):
            column_list = column_details_list = ("name",)
            can_create = can_edit = False
            column_filters = (AllUniqueStringValuesFilter("name"),)

        admin.add_view(TokenView)
        threads: set[int] = set()

        def note(*_: Any) -> None:
            threads.add(threading.get_ident())

        bind = admin_session_maker.kw["bind"]
        event.listen(bind, "before_cursor_execute", note)
        for page in ("list", "list?name=x&search=y", "details/1", "export/csv"):
            answer = await http.get(f"/admin/api-token/{page}")
            assert answer.status_code in (200, 404)
        event.remove(bind, "before_cursor_execute", note)
        assert threads
        assert threading.get_ident() not in threads


class TestFailure:
    @pytest.mark.parametrize(
        ("error", "status", "retry"),
        [
            (OperationalError("SELECT", {}, ConnectionError("secret address")), 503, "5"),
            (RuntimeError("secret text"), 500, None),
        ],
    )
    async def test_is_a_page_that_tells_nothing(
        self,
        admin: ServiceAdmin,
        http: httpx.AsyncClient,
        error: Exception,
        status: int,
        retry: str | None,
    ) -> None:
        class FailingView(ModelView, model=ApiToken):
            column_details_list = ("name",)
            can_create = can_edit = False

            def list_query(self, _request: Request) -> Any:
                raise error

        admin.add_view(FailingView)
        answer = await http.get("/admin/api-token/list")
        assert answer.status_code == status
        assert answer.headers.get("Retry-After") == retry
        assert "secret" not in answer.text
        assert "<html" in answer.text

    async def test_a_full_pool_is_503(self, admin: ServiceAdmin, http: httpx.AsyncClient) -> None:
        class TokenView(ModelView, model=ApiToken):
            column_details_list = ("name",)
            can_create = can_edit = False

        admin.add_view(TokenView)
        engine = create_engine(
            settings.SYNC_DATABASE_URL,
            connect_args=settings.sync_connect_args,
            pool_size=1,
            max_overflow=0,
            pool_timeout=0.05,
        )
        usual = admin_session_maker.kw["bind"]
        admin_session_maker.configure(bind=engine)
        with engine.connect():
            answer = await http.get("/admin/api-token/list")
        admin_session_maker.configure(bind=usual)
        engine.dispose()
        assert answer.status_code == 503
        assert answer.headers["Retry-After"]
