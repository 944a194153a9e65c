"""Roles: a reader sees everything and changes nothing, wherever the change would come in."""

import httpx
import pytest
from fastapi import FastAPI
from sqlmodel import Session, select

from app.main import app
from kit.admin import AdminDep, model_views
from kit.models import AdminRole, AdminUser, ApiToken, AuditAction, AuditEntry
from kit.security import create_api_token, set_admin_password

VIEWS = model_views(app)


def become(session: Session, role: AdminRole) -> AdminUser:
    """Give the administrator who is logged in this role."""
    user = session.exec(select(AdminUser).where(AdminUser.username == "tester")).one()
    user.role = role
    session.commit()
    return user


@pytest.fixture
def reader(admin_client: httpx.AsyncClient, sync_db_session: Session) -> httpx.AsyncClient:
    """A browser in which a reader is logged in."""
    become(sync_db_session, AdminRole.READER)
    return admin_client


def test_who_was_there_before_roles_and_who_is_new_may_change(sync_db_session: Session) -> None:
    assert AdminUser.__table__.c.role.server_default.arg == AdminRole.EDITOR  # type: ignore[attr-defined]
    assert set_admin_password(sync_db_session, "ada", "a password").role == AdminRole.EDITOR


def test_a_new_password_keeps_the_role_unless_it_names_one(sync_db_session: Session) -> None:
    def role_after(role: AdminRole | None) -> str:
        return set_admin_password(sync_db_session, "ada", "a password", role).role

    roles = [role_after(role) for role in (AdminRole.READER, None, AdminRole.EDITOR)]
    assert roles == ["reader", "reader", "editor"]


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.identity)
async def test_a_reader_sees_each_list_and_no_way_to_change_it(
    reader: httpx.AsyncClient, view: object
) -> None:
    base = f"/admin/{view.identity}"  # type: ignore[attr-defined]
    page = await reader.get(f"{base}/list")
    assert page.status_code == 200
    for sign in ("/create", "action-delete", "action-import", "action-custom"):
        assert sign not in page.text, sign
    answers = [
        await reader.get(f"{base}/create"),
        await reader.post(f"{base}/create", data={"x": "y"}),
        await reader.post(f"{base}/edit/1", data={"x": "y"}),
        await reader.delete(f"{base}/delete?pks=1"),
        await reader.post(f"{base}/import"),
        await reader.get(f"{base}/action/whatever?pks=1"),
    ]
    refused = {answer.status_code for answer in answers}
    assert refused <= {403, 404}, refused  # 404 where the view has no such action
    assert [answer.status_code for answer in answers[:5]] == [403] * 5


async def test_a_reader_runs_no_action(reader: httpx.AsyncClient, sync_db_session: Session) -> None:
    create_api_token(sync_db_session, "job")
    sync_db_session.commit()
    token = sync_db_session.exec(select(ApiToken)).one()

    answer = await reader.get(f"/admin/api-token/action/revoke?pks={token.id}")

    assert answer.status_code == 403
    assert "ask an administrator who is an editor" in answer.text
    sync_db_session.refresh(token)
    assert token.revoked_at is None
    actions = select(AuditEntry).where(AuditEntry.action == AuditAction.ACTION)
    assert not sync_db_session.exec(actions).all()


async def test_a_reader_reads_rows_and_exports(
    reader: httpx.AsyncClient, sync_db_session: Session
) -> None:
    user = become(sync_db_session, AdminRole.READER)
    page = await reader.get(f"/admin/admin-user/details/{user.id}")
    assert page.status_code == 200
    assert f"/admin/admin-user/edit/{user.id}" not in page.text
    assert (await reader.get("/admin/admin-user/export/csv")).status_code == 200


async def test_a_role_counts_from_the_next_request_on(
    reader: httpx.AsyncClient, sync_db_session: Session
) -> None:
    assert (await reader.get("/admin/admin-user/create")).status_code == 403
    become(sync_db_session, AdminRole.EDITOR)
    assert (await reader.get("/admin/admin-user/create")).status_code == 200


async def test_an_editor_chooses_the_role_of_others_and_not_their_own(
    admin_client: httpx.AsyncClient, sync_db_session: Session
) -> None:
    ada = set_admin_password(sync_db_session, "ada", "a password")
    sync_db_session.commit()
    tester = become(sync_db_session, AdminRole.EDITOR)
    form = {"role": "reader", "is_active": "y", "save": "Save"}

    assert (await admin_client.post(f"/admin/admin-user/edit/{ada.id}", data=form)).is_redirect
    own = await admin_client.post(f"/admin/admin-user/edit/{tester.id}", data=form)
    unknown = await admin_client.post(
        f"/admin/admin-user/edit/{ada.id}", data=form | {"role": "emperor"}
    )

    assert (own.status_code, unknown.status_code) == (400, 400)
    for user, role in ((ada, "reader"), (tester, "editor")):
        sync_db_session.refresh(user)
        assert user.role == role


async def test_a_form_of_an_own_page_is_refused_to_a_reader(
    reader: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = FastAPI()
    own.state.admin = app.state.admin

    @own.api_route("/desk", methods=["GET", "POST"])
    async def desk(admin: AdminDep) -> str:
        return str(admin.claims["role"])

    own.add_api_route("/admin/login", desk, name="admin:login")
    transport = httpx.ASGITransport(app=own)
    async with httpx.AsyncClient(
        transport=transport, base_url="http://test", cookies=reader.cookies
    ) as http:
        assert (await http.get("/desk")).json() == "reader"
        assert (await http.post("/desk")).status_code == 403
