"""The admin's views of the kit's tables; every view in this module is registered."""

import json
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

import anyio.to_thread
from fastapi import HTTPException
from markupsafe import Markup
from sqladmin import Flash, ModelView, action
from sqladmin.fields import SelectField
from sqladmin.filters import BooleanFilter, OperationColumnFilter
from sqladmin.secret import Secret
from sqlmodel import col, select
from starlette.requests import Request
from starlette.responses import RedirectResponse

from kit.admin._audit import admin_session_maker
from kit.admin._lists import DateRangeFilter, EnumFilterBase, IsSetFilter, exact_time, short_time
from kit.models import AdminRole, AdminUser, ApiToken, AuditAction, AuditEntry
from kit.security import forget_known_tokens, generate_password, hash_password, normalise_username


class AdminUserAdmin(ModelView, model=AdminUser):
    """Administrators. A new one gets a generated password; `make admin-password` sets another."""

    name = "Administrator"
    icon = "fa-solid fa-user-shield"
    category = "Access"
    category_icon = "fa-solid fa-lock"
    column_list = ("username", "role", "is_active", "last_login_at", "created_at")
    column_labels = {
        "is_active": "Active",
        "last_login_at": "Last log-in",
        "created_at": "Since",
    }
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
        self,
        data: dict[str, Any],
        model: AdminUser,
        is_created: bool,
        request: Request,
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
        keys = [key for key in request.query_params.get("pks", "").split(",") if key]
        if not all(key.isdecimal() for key in keys):
            raise HTTPException(HTTPStatus.BAD_REQUEST, "pks has to be numbers separated by commas")
        count = await anyio.to_thread.run_sync(self._revoke, [int(key) for key in keys])
        Flash.success(request, f"{count} revoked")
        return RedirectResponse(
            request.url_for("admin:list", identity=self.identity), HTTPStatus.SEE_OTHER
        )

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
