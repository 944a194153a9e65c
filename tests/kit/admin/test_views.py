import re

import httpx
import pytest
from sqlmodel import Session, col, select

from kit.models import AdminUser, ApiToken, AuditEntry
from kit.security import create_api_token, set_admin_password, verify_password


def last_entry(session: Session) -> AuditEntry:
    return session.exec(select(AuditEntry).order_by(col(AuditEntry.id).desc())).first()  # type: ignore[return-value]


def find_admin(session: Session, username: str) -> AdminUser | None:
    statement = select(AdminUser).where(AdminUser.username == username)
    return session.exec(statement.execution_options(populate_existing=True)).first()


@pytest.fixture
def ada(sync_db_session: Session) -> AdminUser:
    user = set_admin_password(sync_db_session, "ada", "password of ada")
    sync_db_session.commit()
    return user


class TestAdministrators:
    @pytest.mark.parametrize("username", ["two words", "tester", "x" * 65])
    async def test_unusable_or_taken_names_are_refused(
        self, admin_client: httpx.AsyncClient, username: str
    ) -> None:
        answer = await admin_client.post("/admin/admin-user/create", data={"username": username})
        assert answer.status_code == 400
        assert "argon2" not in answer.text

    async def test_a_new_one_gets_a_password_that_is_shown_once(
        self, admin_client: httpx.AsyncClient, sync_db_session: Session
    ) -> None:
        form = {"username": "Grace", "is_active": "y", "save": "Save"}
        answer = await admin_client.post("/admin/admin-user/create", data=form)
        assert answer.status_code == 200
        assert answer.headers["Cache-Control"].startswith("no-store")
        found = re.search(r'value="([^"]+)" readonly', answer.text)
        assert found
        grace = find_admin(sync_db_session, "grace")
        assert grace
        assert verify_password(found[1], grace.password_hash)
        entry = last_entry(sync_db_session)
        assert (entry.actor, entry.action, entry.subject_id) == ("tester", "create", str(grace.id))
        assert entry.details["password_hash"] == {"new": "(hidden)"}

    async def test_the_hash_cannot_be_set(
        self, admin_client: httpx.AsyncClient, sync_db_session: Session, ada: AdminUser
    ) -> None:
        before = ada.password_hash
        form = {"is_active": "y", "password_hash": "x", "username": "eve", "session_version": "9"}
        answer = await admin_client.post(f"/admin/admin-user/edit/{ada.id}", data=form)
        assert answer.status_code == 302
        after = find_admin(sync_db_session, "ada")
        assert after
        assert (after.password_hash, after.session_version) == (before, ada.session_version)

    async def test_deactivation_ends_sessions_and_is_recorded(
        self, admin_client: httpx.AsyncClient, sync_db_session: Session, ada: AdminUser
    ) -> None:
        version = ada.session_version
        answer = await admin_client.post(f"/admin/admin-user/edit/{ada.id}", data={"save": "Save"})
        assert answer.status_code == 302
        after = find_admin(sync_db_session, "ada")
        assert after
        assert not after.is_active
        assert after.session_version == version + 1
        entry = last_entry(sync_db_session)
        assert (entry.actor, entry.action) == ("tester", "update")
        assert entry.details["is_active"] == {"old": True, "new": False}

    async def test_deletion_is_recorded(
        self, admin_client: httpx.AsyncClient, sync_db_session: Session, ada: AdminUser
    ) -> None:
        await admin_client.delete(f"/admin/admin-user/delete?pks={ada.id}")
        assert find_admin(sync_db_session, "ada") is None
        entry = last_entry(sync_db_session)
        assert (entry.actor, entry.action, entry.subject_id) == ("tester", "delete", str(ada.id))
        assert entry.details["username"] == {"old": "ada"}

    async def test_nobody_locks_themselves_out(
        self, admin_client: httpx.AsyncClient, sync_db_session: Session
    ) -> None:
        tester = find_admin(sync_db_session, "tester")
        assert tester
        answer = await admin_client.post(
            f"/admin/admin-user/edit/{tester.id}", data={"save": "Save"}
        )
        assert answer.status_code == 400
        assert "your own account" in answer.text
        answer = await admin_client.delete(f"/admin/admin-user/delete?pks={tester.id}")
        assert "your+own+account" in answer.text
        assert (await admin_client.get("/admin/")).status_code == 200


class TestApiTokens:
    @pytest.fixture
    def token(self, sync_db_session: Session) -> ApiToken:
        create_api_token(sync_db_session, "job")
        sync_db_session.commit()
        return sync_db_session.exec(select(ApiToken)).one()

    @pytest.mark.parametrize("path", ["create", "edit/1"])
    async def test_are_neither_made_nor_changed_here(
        self, admin_client: httpx.AsyncClient, path: str
    ) -> None:
        assert (await admin_client.get(f"/admin/api-token/{path}")).status_code == 403

    @pytest.mark.parametrize("path", ["list", "details/{}"])
    async def test_their_scopes_are_shown(
        self, admin_client: httpx.AsyncClient, token: ApiToken, path: str
    ) -> None:
        page = await admin_client.get(f"/admin/api-token/{path.format(token.id)}")
        assert "default, tasks" in page.text

    async def test_wrong_keys_are_refused(self, admin_client: httpx.AsyncClient) -> None:
        answer = await admin_client.get("/admin/api-token/action/revoke?pks=1,x")
        assert answer.status_code == 400

    async def test_revocation_is_recorded_as_action_and_as_change(
        self, admin_client: httpx.AsyncClient, sync_db_session: Session, token: ApiToken
    ) -> None:
        answer = await admin_client.get(f"/admin/api-token/action/revoke?pks={token.id}")
        assert answer.status_code == 303
        assert "1 revoked" in (await admin_client.get(answer.headers["Location"])).text
        sync_db_session.refresh(token)
        assert token.revoked_at is not None
        action, change = sync_db_session.exec(
            select(AuditEntry).order_by(col(AuditEntry.id).desc()).limit(2)
        ).all()[::-1]
        assert (action.action, action.actor, action.subject_id) == (
            "action",
            "tester",
            str(token.id),
        )
        assert action.details == {"action": "revoke"}
        assert (change.action, change.subject_type) == ("update", "api_token")
        assert change.details["revoked_at"]["old"] is None

    async def test_revoking_again_changes_nothing(
        self, admin_client: httpx.AsyncClient, sync_db_session: Session, token: ApiToken
    ) -> None:
        path = f"/admin/api-token/action/revoke?pks={token.id}"
        await admin_client.get(path)
        sync_db_session.refresh(token)
        revoked_at = token.revoked_at
        await admin_client.get(path)
        sync_db_session.refresh(token)
        assert token.revoked_at == revoked_at


class TestAudit:
    @pytest.mark.parametrize("path", ["create", "edit/1"])
    async def test_is_not_written_by_hand(self, admin_client: httpx.AsyncClient, path: str) -> None:
        assert (await admin_client.get(f"/admin/audit-entry/{path}")).status_code == 403

    async def test_is_not_deleted(
        self, admin_client: httpx.AsyncClient, sync_db_session: Session
    ) -> None:
        entry = last_entry(sync_db_session)
        answer = await admin_client.delete(f"/admin/audit-entry/delete?pks={entry.id}")
        assert answer.status_code == 403
        assert last_entry(sync_db_session).id == entry.id

    async def test_details_are_escaped(
        self, admin_client: httpx.AsyncClient, sync_db_session: Session
    ) -> None:
        entry = AuditEntry(action="create", details={"name": {"new": "<script>alert(1)</script>"}})
        sync_db_session.add(entry)
        sync_db_session.commit()
        page = (await admin_client.get(f"/admin/audit-entry/details/{entry.id}")).text
        assert "<script>alert" not in page
        assert "&lt;script&gt;alert" in page


async def test_no_page_and_no_export_shows_a_hash(
    admin_client: httpx.AsyncClient, sync_db_session: Session
) -> None:
    create_api_token(sync_db_session, "job")
    sync_db_session.commit()
    token = sync_db_session.exec(select(ApiToken)).one()
    user = find_admin(sync_db_session, "tester")
    assert user
    await admin_client.get(f"/admin/api-token/action/revoke?pks={token.id}")
    await admin_client.post("/admin/admin-user/create", data={"username": "grace"})
    pages = [
        f"/admin/{view}/{page}"
        for view, key in (
            ("admin-user", user.id),
            ("api-token", token.id),
            ("audit-entry", last_entry(sync_db_session).id),
        )
        for page in ("list", f"details/{key}", "export/csv", "export/json")
    ]
    for page in [*pages, f"/admin/admin-user/edit/{user.id}", "/admin/admin-user/create"]:
        answer = await admin_client.get(page)
        assert answer.status_code == 200, page
        assert token.token_hash not in answer.text, page
        assert "argon2" not in answer.text, page
    for search in (token.token_hash[:20], user.password_hash[:20]):
        found = await admin_client.get("/admin/api-token/list", params={"search": search})
        assert "Showing 1 to 0 of 0" in found.text
