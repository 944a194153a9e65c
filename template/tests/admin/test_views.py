"""The admin's views: each opens, and only after a log-in."""

import httpx
import pytest
from sqladmin import ModelView

from app.main import app
from kit.admin import model_views

VIEWS = model_views(app)


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.identity)
class TestEveryView:
    async def test_wants_a_log_in(self, client: httpx.AsyncClient, view: ModelView) -> None:
        answer = await client.get(f"/admin/{view.identity}/list")

        assert answer.status_code in (302, 303, 307)
        assert answer.headers["Location"].endswith("/admin/login")

    async def test_lists_rows(self, admin_client: httpx.AsyncClient, view: ModelView) -> None:
        assert (await admin_client.get(f"/admin/{view.identity}/list")).status_code == 200

    async def test_shows_the_form_of_a_new_row(
        self, admin_client: httpx.AsyncClient, view: ModelView
    ) -> None:
        answer = await admin_client.get(f"/admin/{view.identity}/create")

        assert answer.status_code == (200 if view.can_create else 403)
