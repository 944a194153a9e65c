"""The admin at /admin: SQLAdmin on `sync_engine`, with the views of the kit's tables.

Its views are the `ModelView`s and `BaseView`s in the modules of `app.admin`, those that each
enabled extension's `setup_admin(admin)` adds, further ones in its `admin`, and those in this
module. Templates are searched in the extensions' `templates/`, then in the service's, then in the
kit's, then in SQLAdmin's own.
"""

import functools
import inspect
import json
import sys
from datetime import UTC, datetime
from http import HTTPStatus
from types import ModuleType
from typing import Any

import anyio.to_thread
from fastapi import FastAPI
from jinja2 import ChoiceLoader, FileSystemLoader
from markupsafe import Markup
from sqladmin import Admin, BaseView, Flash, ModelView, action
from sqladmin.authentication import login_required
from sqladmin.fields import SelectField
from sqladmin.filters import BooleanFilter, OperationColumnFilter
from sqladmin.secret import Secret
from sqladmin.templating import Jinja2Templates
from sqlalchemy import inspect as inspect_model
from sqlalchemy.orm import Mapper
from sqlmodel import col, select
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.staticfiles import StaticFiles

from kit.admin._audit import admin_session_maker
from kit.admin._authentication import AdminAuthentication, AdminAuthorization, AdminRequestGuard
from kit.admin._forms import refuse_unknown_names, refuse_unusable_columns, service_view
from kit.admin._lists import (
    DateRangeFilter,
    EnumFilterBase,
    IsSetFilter,
    exact_time,
    home_context,
    short_time,
)
from kit.discovery import import_modules
from kit.errors import problem_for
from kit.extensions import ExtensionError, load_extensions
from kit.models import AdminRole, AdminUser, ApiToken, AuditAction, AuditEntry
from kit.pages import KIT_TEMPLATES_DIR, TEMPLATES_DIR, extension_template_dirs
from kit.security import forget_known_tokens, generate_password, hash_password, normalise_username
from kit.settings import BASE_DIR, StartupError, settings

ADMIN_PATH = "/admin"
KIT_STATIC_DIR = BASE_DIR / "kit" / "static"


def setup_admin(app: FastAPI, package: str) -> "ServiceAdmin":
    """Mount the admin, with all its views, at /admin.

    Args:
        app: the application.
        package: its modules have the service's own views; a view of one of the kit's tables
            replaces the kit's view.

    Raises:
        ExtensionError: when an extension's admin cannot be set up.
        StartupError: when a view would show a column that is marked as sensitive.
    """
    authentication = AdminAuthentication(admin_session_maker)
    admin = ServiceAdmin(
        app,
        session_maker=admin_session_maker,
        base_url=ADMIN_PATH,
        title=settings.PROJECT_NAME,
        favicon_url="/static/favicon.svg",
        templates_dir=str(TEMPLATES_DIR),
        middlewares=[Middleware(AdminRequestGuard)],
        authentication_backend=authentication,
        authorization_backend=AdminAuthorization(),
    )
    app.state.admin = admin
    authentication.templates = admin.templates
    admin.admin.add_exception_handler(Exception, admin.show_failure)
    own = {view: None for module in import_modules(package) for view in _views_in(module)}
    replaced = {getattr(view, "model", None) for view in own}
    for view in _views_in(sys.modules[__name__]):
        if view.model not in replaced:
            admin.add_view(view)
    for view in own:
        admin.add_view(view)
    for extension, module in load_extensions("admin"):
        setup = getattr(module, "setup_admin", None)
        if not callable(setup):
            raise ExtensionError(
                f"extension {extension!r} is broken: {module.__file__} defines no "
                "`setup_admin(admin)`. Add it."
            )
        setup(admin)
        modules = import_modules(module.__name__) if hasattr(module, "__path__") else []
        for view in (view for each in modules for view in _views_in(each)):
            is_its_own = view.__module__.startswith(f"{module.__name__}.")
            if is_its_own and not any(isinstance(added, view) for added in admin.views):
                admin.add_view(view)
    return admin


def register_views(admin: Admin, module: ModuleType) -> None:
    """Add every view in the module, imported ones too, in alphabetical order."""
    for view in _views_in(module):
        admin.add_view(view)


def model_views(app: FastAPI) -> list[ModelView]:
    """The views of tables that the application's admin shows, for tests of each."""
    return [view for view in app.state.admin.views if isinstance(view, ModelView)]


def chosen_keys(request: Request) -> list[int]:
    """The keys of the rows that an action is asked for, where they are numbers.

    Raises:
        HTTPException: 400 when one is none.
    """
    keys = [key for key in request.query_params.get("pks", "").split(",") if key]
    if not all(key.isdecimal() and not key[19:] for key in keys):
        raise HTTPException(HTTPStatus.BAD_REQUEST, "pks has to be numbers separated by commas")
    return [int(key) for key in keys]


def return_to_list(view: ModelView, request: Request, message: str) -> RedirectResponse:
    """Return from an action to the view's list, which shows the message."""
    Flash.success(request, message)
    return RedirectResponse(
        request.url_for("admin:list", identity=view.identity), HTTPStatus.SEE_OTHER
    )


class ServiceAdmin(Admin):
    """SQLAdmin's `Admin` with our template search order, error page and checks of views."""

    def __init__(self, *arguments: Any, favicon_url: str = "", **options: Any) -> None:
        super().__init__(*arguments, **options)
        # For `sqladmin/base.html`, which puts the root path before it.
        self.templates.env.globals["favicon_url"] = favicon_url
        self.templates.env.globals["is_local"] = settings.is_local
        # No view has such a name: a model may be called Kit.
        self.admin.mount("/_kit", StaticFiles(directory=KIT_STATIC_DIR), name="kit")

    def init_templating_engine(self) -> Jinja2Templates:
        """Search the extensions' templates, the service's, the kit's, then SQLAdmin's own."""
        templates = super().init_templating_engine()
        own_order = templates.env.loader
        if own_order is not None:
            first = FileSystemLoader([*extension_template_dirs(), TEMPLATES_DIR, KIT_TEMPLATES_DIR])
            templates.env.loader = ChoiceLoader([first, own_order])
        return templates

    def add_model_view(self, view: type[ModelView]) -> None:
        """Add the view, with the kit's forms and readable labels for columns that have none.

        Raises:
            StartupError: when it would show a column that is marked as sensitive, has one that its
                form or list cannot serve, or names one that there is not.
        """
        view = service_view(view)
        mapper: Mapper[Any] = inspect_model(view.model)
        names = mapper.all_orm_descriptors.keys()
        labels: dict[Any, str] = {name: name.replace("_", " ").capitalize() for name in names}
        view.column_labels = labels | dict(view.column_labels)
        try:
            super().add_model_view(view)
        except ValueError as error:  # an option that SQLAdmin checks itself
            raise StartupError(f"the admin view {view.__name__} is refused: {error}") from error
        instance = self.views[-1]
        if isinstance(instance, ModelView):
            refuse_unknown_names(instance)
            _refuse_sensitive_columns(instance)
            refuse_unusable_columns(instance)
            # SQLAdmin 0.32 runs the filters' own queries in the event loop when sessions are sync.
            run: Any = instance._run_arbitrary_query_sync  # noqa: SLF001
            run_in_thread = functools.partial(anyio.to_thread.run_sync, run)
            instance._run_arbitrary_query = run_in_thread  # type: ignore[method-assign]  # noqa: SLF001

    @login_required
    async def index(self, request: Request) -> Response:
        """The home: the menu's pages, how many rows each has, and what was done last."""
        groups: list[tuple[str, list[Any]]] = []
        for item in self._menu.items:
            pages = [
                each
                for each in item.children or [item]
                if each.is_visible(request) and each.is_accessible(request)
            ]
            groups.append((item.name if item.children else "", pages))
        views = [page.view for _, pages in groups for page in pages if page.view.is_model]
        context = {"groups": groups, **await home_context(views, request)}
        return await self.templates.TemplateResponse(request, "sqladmin/index.html", context)

    async def _delete(self, request: Request) -> None:
        if not request.query_params.get("pks"):
            raise HTTPException(HTTPStatus.BAD_REQUEST, "pks has to name the rows to delete.")
        await super()._delete(request)

    async def show_failure(self, request: Request, error: Exception) -> Response:
        """Answer a view's exception with a page: 503 if a server is away or busy, otherwise 500.

        Starlette raises the error again afterwards, so that it is logged like any other.
        """
        problem = problem_for(error)
        response = await self.templates.TemplateResponse(
            request,
            "sqladmin/error.html",
            {"status_code": problem.status_code, "message": problem.detail},
            status_code=problem.status_code,
        )
        response.headers.update(problem.headers or {})
        return response


def _views_in(module: ModuleType) -> list[Any]:
    def is_view(member: object) -> bool:
        if not inspect.isclass(member) or not issubclass(member, BaseView):
            return False
        # `ModelView` has no model, and no common base of several views has one.
        return hasattr(member, "model") if issubclass(member, ModelView) else member is not BaseView

    return [view for _, view in inspect.getmembers(module, is_view)]


def _refuse_sensitive_columns(view: ModelView) -> None:
    """Refuse a view with a sensitive column in its pages, export, forms or search."""
    mapper: Mapper[Any] = inspect_model(view.model)
    columns = mapper.column_attrs
    sensitive = {each.key for each in columns if each.columns[0].info.get("sensitive")}
    shown_in = {
        "column_list": view.get_list_columns(),
        "column_details_list": view.get_details_columns(),
        "column_export_list": view.get_export_columns(),
        "column_import_list": view.get_import_columns(),
        "form_columns": view.get_form_columns() if view.can_create or view.can_edit else [],
        "column_searchable_list": view.column_searchable_list,
        "column_sortable_list": view.column_sortable_list,
    }
    for option, shown in shown_in.items():
        names = {column if isinstance(column, str) else column.key for column in shown}
        if found := sensitive & names:
            raise StartupError(
                f"the admin view {type(view).__name__} shows {', '.join(sorted(found))}, which "
                f"{view.model.__name__} marks as sensitive; set {option} to the other columns."
            )


class AdminUserAdmin(ModelView, model=AdminUser):
    """Administrators. A new one gets a generated password; `make admin-password` sets another."""

    name = "Administrator"
    icon = "fa-solid fa-user-shield"
    category = "Access"
    category_icon = "fa-solid fa-lock"
    column_list = ("username", "role", "is_active", "last_login_at", "created_at")
    column_labels = {"is_active": "Active", "last_login_at": "Last log-in", "created_at": "Since"}
    column_details_list = (*column_list, "password_changed_at")
    column_searchable_list = ("username",)
    column_sortable_list = ("username", "last_login_at", "created_at")
    column_default_sort = "username"
    column_filters = (BooleanFilter("is_active", title="Active"),)
    column_formatters = dict.fromkeys(
        ("last_login_at", "created_at", "password_changed_at"), short_time
    )
    column_formatters_detail = column_formatters
    form_columns = ("username", "role", "is_active")
    form_edit_rules = ["role", "is_active"]
    form_overrides = {"role": SelectField}
    form_args = {"role": {"choices": [(role.value, role.value.capitalize()) for role in AdminRole]}}

    async def on_model_change(
        self, data: dict[str, Any], model: AdminUser, is_created: bool, request: Request
    ) -> None:
        """Set the password of a new account, and end the sessions of a disabled one.

        Raises:
            ValueError: for an invalid username, and when administrators would disable themselves
                or change their own role.
        """
        if is_created:
            data["username"] = normalise_username(data["username"])
            password = generate_password()
            model.password_hash = await anyio.to_thread.run_sync(hash_password, password)
            request.state.generated_password = password
            return
        if data["role"] != model.role:
            _refuse_on_oneself(model, request)
        if model.is_active and not data["is_active"]:
            _refuse_on_oneself(model, request)
            model.session_version += 1

    async def after_model_change(
        self,
        data: dict[str, Any],  # noqa: ARG002
        model: AdminUser,
        is_created: bool,
        request: Request,
    ) -> None:
        """Show a new account's password, only this once."""
        if is_created:
            Secret.reveal_once(
                request,
                request.state.generated_password,
                title=f"Password of {model.username}",
                label="Hand it over now: it will not be shown again.",
            )

    async def on_model_delete(self, model: AdminUser, request: Request) -> None:
        """Refuse to delete one's own account, so that one who can log in always remains.

        Raises:
            ValueError: when it is one's own account.
        """
        _refuse_on_oneself(model, request)


class ApiTokenAdmin(ModelView, model=ApiToken):
    """API tokens; the tokens themselves cannot be shown. `make token` makes one."""

    name = "API token"
    icon = "fa-solid fa-key"
    category = "Access"
    category_icon = "fa-solid fa-lock"
    can_create = can_edit = can_delete = False
    column_list = (
        "name",
        "scopes",
        "hint",
        "created_at",
        "expires_at",
        "last_used_at",
        "revoked_at",
    )
    column_details_list = column_list
    column_labels = {
        "hint": "Begins with",
        "created_at": "Since",
        "expires_at": "Expires",
        "last_used_at": "Last used",
        "revoked_at": "Revoked",
    }
    column_searchable_list = ("name", "hint")
    column_sortable_list = ("name", "created_at", "expires_at", "last_used_at")
    column_default_sort = "name"
    column_filters = (
        IsSetFilter(ApiToken.revoked_at, title="Revoked"),
        DateRangeFilter(ApiToken.last_used_at, title="Last used"),
    )
    column_formatters = {
        **dict.fromkeys(("created_at", "expires_at", "last_used_at", "revoked_at"), short_time),
        "scopes": lambda token, _: ", ".join(token.scopes),
    }
    column_formatters_detail = column_formatters

    @action(
        name="revoke",
        label="Revoke",
        confirmation_message="Revoke permanently? Programs that use it are refused from now on.",
    )
    async def revoke(self, request: Request) -> RedirectResponse:
        """Revoke the chosen tokens; other processes follow within a minute."""
        count = await anyio.to_thread.run_sync(self._revoke, chosen_keys(request))
        return return_to_list(self, request, f"{count} revoked")

    def _revoke(self, ids: list[int]) -> int:
        statement = select(ApiToken).where(
            col(ApiToken.id).in_(ids), col(ApiToken.revoked_at).is_(None)
        )
        with admin_session_maker.begin() as session:
            tokens = session.exec(statement).all()
            for token in tokens:
                token.revoked_at = datetime.now(UTC)
        forget_known_tokens()
        return len(tokens)


class AuditActionFilter(EnumFilterBase):
    """Filters by the kind of action."""

    enum = AuditAction


class AuditEntryAdmin(ModelView, model=AuditEntry):
    """The audit trail, read-only."""

    name = "Audit entry"
    name_plural = "Audit"
    icon = "fa-solid fa-clock-rotate-left"
    category = "Access"
    category_icon = "fa-solid fa-lock"
    can_create = can_edit = can_delete = False
    column_list = ("occurred_at", "actor", "action", "subject_type", "subject_id", "client")
    column_details_list = (*column_list, "details")
    column_labels = {
        "occurred_at": "When",
        "actor": "Who",
        "action": "What",
        "subject_type": "Table",
        "subject_id": "Key",
        "client": "From",
    }
    column_export_list = [*column_details_list]
    column_searchable_list = ("actor", "subject_type", "subject_id", "client")
    column_sortable_list = ("occurred_at", "actor", "action")
    column_default_sort = ("id", True)
    column_filters = (
        AuditActionFilter(AuditEntry.action, title="What"),
        DateRangeFilter(AuditEntry.occurred_at, title="When"),
        OperationColumnFilter("actor", title="Who"),
    )
    column_formatters = {"occurred_at": exact_time}
    column_formatters_detail = {
        "occurred_at": exact_time,
        "details": lambda row, _: Markup("<pre>{}</pre>").format(json.dumps(row.details, indent=2)),
    }
    export_max_rows = 10_000
    page_size = 25


def _refuse_on_oneself(model: AdminUser, request: Request) -> None:
    if model.id == request.session.get("user_id"):
        raise ValueError("That is your own account; another administrator has to do this.")
