import base64
import json
import re
import time
from typing import Any

import httpx
import itsdangerous
import pytest
from fastapi import FastAPI
from sqladmin import Admin
from sqlmodel import Session, select

from app.core.config import settings
from app.core.database import sync_engine
from app.main import app
from kit.admin import _authentication as authentication
from kit.admin._audit import admin_session_maker
from kit.admin._authentication import AdminAuthentication, derived_key
from kit.models import AdminUser, AuditAction, AuditEntry
from kit.security import disable_admin, set_admin_password

PASSWORD = "correct horse battery staple"
PAGES = [
    "/admin/",
    "/admin/admin-user/list",
    "/admin/admin-user/create",
    "/admin/admin-user/details/1",
    "/admin/admin-user/edit/1",
    "/admin/admin-user/export/csv",
    "/admin/api-token/action/revoke?pks=1",
    "/admin/audit-entry/export/json",
]


def log_in(username: str = "tester", password: str = PASSWORD) -> dict[str, str]:
    return {"username": username, "password": password}


def session_cookie(data: dict[str, Any], key: str = "") -> str:
    signer = itsdangerous.TimestampSigner(key or derived_key("admin session"))
    return signer.sign(base64.b64encode(json.dumps(data).encode())).decode()


@pytest.fixture
def tester(sync_db_session: Session) -> AdminUser:
    user = set_admin_password(sync_db_session, "tester", PASSWORD)
    sync_db_session.commit()
    return user


async def is_in(http: httpx.AsyncClient) -> bool:
    answer = await http.get("/admin/admin-user/list")
    return answer.status_code == 200


class TestAnonymous:
    @pytest.mark.parametrize("path", PAGES)
    async def test_is_sent_to_the_log_in(
        self, anonymous_client: httpx.AsyncClient, path: str
    ) -> None:
        answer = await anonymous_client.get(path)
        assert answer.status_code == 302
        assert answer.headers["Location"] == "http://test/admin/login"

    @pytest.mark.parametrize(
        ("method", "path"),
        [("POST", "/admin/admin-user/create"), ("DELETE", "/admin/admin-user/delete?pks=1")],
    )
    async def test_changes_nothing(
        self,
        anonymous_client: httpx.AsyncClient,
        sync_db_session: Session,
        tester: AdminUser,
        method: str,
        path: str,
    ) -> None:
        answer = await anonymous_client.request(method, path, data={"username": "intruder"})
        assert answer.status_code == 302
        assert [user.username for user in sync_db_session.exec(select(AdminUser))] == ["tester"]


class TestForgedSession:
    @pytest.fixture
    def good(self, tester: AdminUser) -> dict[str, Any]:
        return {
            "user_id": tester.id,
            "version": tester.session_version,
            "ends_at": time.time() + 60,
        }

    async def try_cookie(self, http: httpx.AsyncClient, cookie: str) -> bool:
        http.cookies.set("admin_session", cookie, path="/")
        return await is_in(http)

    async def test_of_another_key(
        self, anonymous_client: httpx.AsyncClient, good: dict[str, Any]
    ) -> None:
        cookie = session_cookie(good, key="another key")
        assert not await self.try_cookie(anonymous_client, cookie)

    async def test_signed_for_another_purpose(
        self, anonymous_client: httpx.AsyncClient, good: dict[str, Any]
    ) -> None:
        cookie = session_cookie(good, key=derived_key("admin device"))
        assert not await self.try_cookie(anonymous_client, cookie)

    @pytest.mark.parametrize("cookie", ["", "null", "garbage", "e30=.x.y"])
    async def test_of_garbage(
        self, anonymous_client: httpx.AsyncClient, tester: AdminUser, cookie: str
    ) -> None:
        assert not await self.try_cookie(anonymous_client, cookie)

    async def test_expired(self, anonymous_client: httpx.AsyncClient, good: dict[str, Any]) -> None:
        cookie = session_cookie(good | {"ends_at": time.time() - 1})
        assert not await self.try_cookie(anonymous_client, cookie)

    @pytest.mark.parametrize("missing", ["user_id", "version", "ends_at"])
    async def test_incomplete(
        self, anonymous_client: httpx.AsyncClient, good: dict[str, Any], missing: str
    ) -> None:
        del good[missing]
        assert not await self.try_cookie(anonymous_client, session_cookie(good))

    async def test_a_good_one_would_have_been_accepted(
        self, anonymous_client: httpx.AsyncClient, good: dict[str, Any]
    ) -> None:
        assert await self.try_cookie(anonymous_client, session_cookie(good))


class TestLogin:
    @pytest.mark.parametrize(
        "form",
        [
            {},
            log_in(password=""),
            log_in(password="wrong"),
            log_in(username="nobody"),
            log_in(username="' OR 1=1 --"),
            log_in(username="x" * 5_000, password="x" * 5_000),
        ],
    )
    async def test_wrong_credentials(
        self, anonymous_client: httpx.AsyncClient, tester: AdminUser, form: dict[str, str]
    ) -> None:
        answer = await anonymous_client.post("/admin/login", data=form)
        assert answer.status_code == 400
        assert "Invalid credentials" in answer.text
        assert "set-cookie" not in answer.headers
        assert not await is_in(anonymous_client)

    async def test_a_disabled_account_looks_like_a_wrong_password(
        self, anonymous_client: httpx.AsyncClient, sync_db_session: Session, tester: AdminUser
    ) -> None:
        disable_admin(sync_db_session, "tester")
        sync_db_session.commit()
        answer = await anonymous_client.post("/admin/login", data=log_in())
        assert answer.status_code == 400
        assert "Invalid credentials" in answer.text

    async def test_cookies_are_for_this_service_and_no_script(
        self, anonymous_client: httpx.AsyncClient, tester: AdminUser
    ) -> None:
        answer = await anonymous_client.post("/admin/login", data=log_in(username=" TESTER "))
        assert answer.status_code == 302
        cookies = answer.headers.get_list("set-cookie")
        assert {cookie.split("=")[0] for cookie in cookies} == {"admin_session", "admin_device"}
        for cookie in cookies:
            flags = {flag.strip().lower() for flag in cookie.split(";")}
            path = "path=/" if cookie.startswith("admin_session") else "path=/admin"
            assert {"httponly", "samesite=strict", path} <= flags
            assert "secure" not in flags
        assert await is_in(anonymous_client)

    async def test_cookies_and_links_are_below_the_root_path(
        self, sync_db_session: Session, tester: AdminUser
    ) -> None:
        transport = httpx.ASGITransport(app=app, root_path="/shop")
        # The server puts the root path before the path, as the proxy has removed it.
        async with httpx.AsyncClient(transport=transport, base_url="http://test/shop/") as http:
            answer = await http.post("admin/login", data=log_in())
            page = await http.get(answer.headers["location"])

        device, session = sorted(answer.headers.get_list("set-cookie"))
        assert "path=/shop/admin;" in device.lower()
        assert "path=/shop;" in session.lower()
        assert page.status_code == 200
        addresses = re.findall(r'(?:href|src)="(?:http://test)?(/[^"]*)"', page.text)
        assert len(addresses) > 5
        assert [each for each in addresses if not each.startswith("/shop/")] == []

    async def test_cookies_need_tls_outside_local(
        self, sync_db_session: Session, tester: AdminUser, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        elsewhere = settings.model_copy(update={"ENVIRONMENT": "production"})
        monkeypatch.setattr(authentication, "settings", elsewhere)
        elsewhere_app = FastAPI()
        Admin(
            elsewhere_app,
            sync_engine,
            authentication_backend=AdminAuthentication(admin_session_maker),
        )
        transport = httpx.ASGITransport(app=elsewhere_app)
        async with httpx.AsyncClient(transport=transport, base_url="https://test") as http:
            answer = await http.post("/admin/login", data=log_in())
        cookies = answer.headers.get_list("set-cookie")
        assert len(cookies) == 2
        assert all("secure" in cookie.lower().split("; ") for cookie in cookies)

    async def test_is_recorded(
        self, anonymous_client: httpx.AsyncClient, sync_db_session: Session, tester: AdminUser
    ) -> None:
        await anonymous_client.post("/admin/login", data=log_in(password="wrong"))
        await anonymous_client.post("/admin/login", data=log_in(username="hunter2"))
        await anonymous_client.post("/admin/login", data=log_in())
        entries = sync_db_session.exec(
            select(AuditEntry).where(AuditEntry.action != AuditAction.PASSWORD)
        ).all()
        assert [(entry.action, entry.actor, entry.client) for entry in entries] == [
            ("login-failed", "tester", "127.0.0.1"),
            ("login-failed", "", "127.0.0.1"),
            ("login", "tester", "127.0.0.1"),
        ]
        # What was typed as an unknown name may have been a password.
        assert "hunter2" not in "".join(entry.model_dump_json() for entry in entries)
        sync_db_session.refresh(tester)
        assert tester.last_login_at is not None


class TestSessionEnds:
    async def test_at_log_out_for_copies_of_the_cookie_too(
        self, admin_client: httpx.AsyncClient, sync_db_session: Session
    ) -> None:
        copy = admin_client.cookies["admin_session"]
        answer = await admin_client.get("/admin/logout")
        assert answer.headers["Location"] == "http://test/admin/login"
        assert not await is_in(admin_client)
        admin_client.cookies.set("admin_session", copy, path="/")
        assert not await is_in(admin_client)
        entry = sync_db_session.exec(
            select(AuditEntry).where(AuditEntry.action == AuditAction.LOGOUT)
        ).one()
        assert entry.actor == "tester"

    async def test_with_a_new_password(
        self, admin_client: httpx.AsyncClient, sync_db_session: Session
    ) -> None:
        assert await is_in(admin_client)
        set_admin_password(sync_db_session, "tester", "another password")
        sync_db_session.commit()
        assert not await is_in(admin_client)

    async def test_with_deactivation_for_good(
        self, admin_client: httpx.AsyncClient, sync_db_session: Session
    ) -> None:
        disable_admin(sync_db_session, "tester")
        sync_db_session.commit()
        assert not await is_in(admin_client)
        user = sync_db_session.exec(select(AdminUser)).one()
        sync_db_session.refresh(user)
        user.is_active = True
        sync_db_session.add(user)
        sync_db_session.commit()
        assert not await is_in(admin_client)

    async def test_with_the_account(
        self, admin_client: httpx.AsyncClient, sync_db_session: Session
    ) -> None:
        sync_db_session.delete(sync_db_session.exec(select(AdminUser)).one())
        sync_db_session.commit()
        assert not await is_in(admin_client)
