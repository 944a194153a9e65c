"""A report, and counters that can be set back."""

from typing import Any

from sqladmin import BaseView, ModelView, action, expose
from sqlmodel import col, update
from starlette.requests import Request
from starlette.responses import RedirectResponse

from app.core.database import sync_session_maker
from app.models.counter import Counter


class ReportView(BaseView):
    """A page of its own."""

    name = "Report"
    icon = "fa-solid fa-chart-line"

    @expose("/report", methods=["GET"])
    async def report(self, request: Request) -> Any:
        """Show it."""
        return await self.templates.TemplateResponse(request, "admin/report.html", {"total": 42})


class CounterAdmin(ModelView, model=Counter):
    """Counters."""

    column_list = ("label", "value")
    column_searchable_list = ("label",)
    column_sortable_list = ("label", "value")

    @action(name="set-back", label="Set back to 0")
    async def set_back(self, request: Request) -> RedirectResponse:
        """Set the chosen counters to 0."""
        keys = [int(key) for key in request.query_params.get("pks", "").split(",") if key]
        with sync_session_maker.begin() as session:
            session.exec(update(Counter).where(col(Counter.id).in_(keys)).values(value=0))
        return RedirectResponse(request.url_for("admin:list", identity=self.identity), 303)
