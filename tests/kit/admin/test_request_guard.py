import re

import httpx
import pytest
from sqlmodel import Session, select

from kit.models import ApiToken, AuditEntry
from kit.security import create_api_token, set_admin_password

FORM = {"username": "tester", "password": "correct horse battery staple"}
CROSS_SITE = [
    {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"},
    {"Sec-Fetch-Site": "same-site", "Origin": "http://blog.test"},
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://test:8080"},
]
OWN = [
    {"Sec-Fetch-Site": "same-origin", "Origin": "http://test"},
    {"Sec-Fetch-Site": "none"},
    {"Origin": "http://test"},
    {},
]


@pytest.fixture
def token(sync_db_session: Session) -> ApiToken:
    create_api_token(sync_db_session, "job")
    sync_db_session.commit()
    return sync_db_session.exec(select(ApiToken)).one()


class TestAnotherSite:
    @pytest.mark.parametrize("headers", CROSS_SITE)
    async def test_cannot_log_a_browser_in(
        self, admin_client: httpx.AsyncClient, headers: dict[str, str]
    ) -> None:
        answer = await admin_client.post("/admin/login", data=FORM, headers=headers)
        assert answer.status_code == 403
        assert "set-cookie" not in answer.headers

    @pytest.mark.parametrize("headers", CROSS_SITE)
    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("POST", "/admin/admin-user/create"),
            ("DELETE", "/admin/admin-user/delete?pks=1"),
            ("GET", "/admin/logout"),
            ("HEAD", "/admin/logout/"),
        ],
    )
    async def test_changes_nothing(
        self, admin_client: httpx.AsyncClient, method: str, path: str, headers: dict[str, str]
    ) -> None:
        answer = await admin_client.request(method, path, data={"username": "x"}, headers=headers)
        assert answer.status_code == 403
        assert (await admin_client.get("/admin/")).status_code == 200

    @pytest.mark.parametrize("headers", [{"Sec-Fetch-Site": "same-site"}, {}])
    async def test_a_head_is_no_form_that_was_sent(
        self,
        admin_client: httpx.AsyncClient,
        sync_db_session: Session,
        headers: dict[str, str],
    ) -> None:
        """SQLAdmin would save an empty one, in which the account is not active."""
        ada = set_admin_password(sync_db_session, "ada", FORM["password"])
        sync_db_session.commit()
        before = len(sync_db_session.exec(select(AuditEntry)).all())
        for path in (f"/admin/admin-user/edit/{ada.id}", "/admin/login"):
            assert (await admin_client.head(path, headers=headers)).status_code == 200
        sync_db_session.refresh(ada)
        assert ada.is_active
        assert len(sync_db_session.exec(select(AuditEntry)).all()) == before

    @pytest.mark.parametrize("headers", CROSS_SITE)
    async def test_runs_no_action_although_it_is_a_get(
        self,
        admin_client: httpx.AsyncClient,
        sync_db_session: Session,
        token: ApiToken,
        headers: dict[str, str],
    ) -> None:
        path = f"/admin/api-token/action/revoke?pks={token.id}"
        assert (await admin_client.get(path, headers=headers)).status_code == 403
        sync_db_session.refresh(token)
        assert token.revoked_at is None


class TestOurPages:
    @pytest.mark.parametrize("headers", OWN)
    async def test_may_log_in(
        self, admin_client: httpx.AsyncClient, headers: dict[str, str]
    ) -> None:
        answer = await admin_client.post("/admin/login", data=FORM, headers=headers)
        assert answer.status_code == 302

    async def test_a_link_from_elsewhere_only_reads(self, admin_client: httpx.AsyncClient) -> None:
        answer = await admin_client.get("/admin/", headers={"Sec-Fetch-Site": "cross-site"})
        assert answer.status_code == 200


class TestHeaders:
    @pytest.mark.parametrize("path", ["/admin/login", "/admin/", "/admin/nowhere"])
    async def test_of_pages(self, admin_client: httpx.AsyncClient, path: str) -> None:
        headers = (await admin_client.get(path)).headers
        policy = headers["Content-Security-Policy"]
        assert "default-src 'self'" in policy
        assert "script-src" not in policy  # so that scripts, too, come from here and from files
        assert "frame-ancestors 'none'" in policy
        assert headers["Cache-Control"] == "no-store"
        assert headers["X-Content-Type-Options"] == "nosniff"

    @pytest.mark.parametrize("path", ["/admin/statics/css/main.css", "/admin/_kit/admin.css"])
    async def test_static_files_may_be_kept(
        self, admin_client: httpx.AsyncClient, path: str
    ) -> None:
        answer = await admin_client.get(path)
        assert answer.status_code == 200
        assert "Cache-Control" not in answer.headers

    @pytest.mark.parametrize(
        "path",
        [
            "/admin/login",
            "/admin/",
            "/admin/admin-user/list",
            "/admin/admin-user/create",
            "/admin/audit-entry/list",
        ],
    )
    async def test_pages_hold_no_inline_script(
        self, admin_client: httpx.AsyncClient, path: str
    ) -> None:
        page = (await admin_client.get(path)).text
        scripts = re.findall("<script[^>]*>", page)
        assert scripts
        assert all('src="http://test/' in script for script in scripts)
        assert "onclick=" not in page
