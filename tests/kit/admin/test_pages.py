"""A page of the service's own that needs an administrator's log-in."""

from collections.abc import Iterator

import httpx
import pytest
from fastapi import WebSocket
from fastapi.routing import APIRoute, APIWebSocketRoute
from fastapi.testclient import TestClient
from sqlmodel import Session
from starlette.middleware.sessions import SessionMiddleware
from starlette.testclient import WebSocketDenialResponse

from app.main import app
from kit.admin import AdminDep
from kit.security import set_admin_password

HTML = {"Accept": "text/html"}
TESTER = {"username": "tester", "password": "correct horse battery staple"}


@pytest.fixture
def tester(sync_db_session: Session) -> None:
    set_admin_password(sync_db_session, TESTER["username"], TESTER["password"])
    sync_db_session.commit()


@pytest.fixture(autouse=True)
def desk() -> Iterator[None]:
    """A page at /desk, to read and to send a form to."""

    async def show_desk(admin: AdminDep) -> str:
        return f"{admin.kind} {admin.name}"

    async def greet(socket: WebSocket, admin: AdminDep) -> None:
        await socket.accept()
        await socket.send_text(admin.name)

    app.router.routes.insert(0, APIRoute("/desk", show_desk, methods=["GET", "POST"]))
    app.router.routes.insert(0, APIWebSocketRoute("/desk/live", greet))
    yield
    del app.router.routes[:2]


async def test_without_a_session_a_browser_logs_in_and_comes_back(
    anonymous_client: httpx.AsyncClient, tester: None
) -> None:
    answer = await anonymous_client.get("/desk?day=1&desk=2", headers=HTML)
    assert answer.status_code == 303
    log_in = answer.headers["location"]
    assert httpx.URL(log_in).path == "/admin/login"

    form = await anonymous_client.get(log_in)
    action = form.text.split('action="')[1].split('"')[0].replace("&amp;", "&")
    wrong = await anonymous_client.post(action, data={**TESTER, "password": "wrong"})
    assert wrong.status_code == 400
    assert action.replace("&", "&amp;") in wrong.text
    answer = await anonymous_client.post(action, data=TESTER)

    assert answer.status_code == 302
    assert answer.headers["location"] == "/desk?day=1&desk=2"
    answer = await anonymous_client.get("/desk", headers=HTML)
    assert answer.json() == "administrator tester"


@pytest.mark.parametrize("page", ["https://elsewhere.example/", "//elsewhere.example", "desk", ""])
async def test_a_log_in_leads_to_this_service_alone(
    anonymous_client: httpx.AsyncClient, tester: None, page: str
) -> None:
    answer = await anonymous_client.post("/admin/login", params={"next": page}, data=TESTER)
    assert answer.headers["location"] == "http://test/admin/"


@pytest.mark.parametrize(
    ("method", "headers"), [("GET", {}), ("GET", {"Accept": "application/json"}), ("POST", HTML)]
)
async def test_without_a_session_others_are_refused(
    anonymous_client: httpx.AsyncClient, method: str, headers: dict[str, str]
) -> None:
    answer = await anonymous_client.request(method, "/desk", headers=headers)
    assert answer.status_code == 401
    assert "/admin/login" in answer.text


async def test_after_the_log_out_it_is_closed(admin_client: httpx.AsyncClient) -> None:
    cookies = dict(admin_client.cookies)
    assert (await admin_client.get("/desk")).status_code == 200

    await admin_client.get("/admin/logout")

    admin_client.cookies.update(cookies)  # a copy does not open it either
    assert (await admin_client.get("/desk")).status_code == 401


async def test_a_form_of_another_site_is_refused(admin_client: httpx.AsyncClient) -> None:
    assert (await admin_client.post("/desk")).status_code == 200
    answer = await admin_client.post("/desk", headers={"Sec-Fetch-Site": "cross-site"})
    assert answer.status_code == 403


async def test_a_websocket_is_for_the_services_own_pages(admin_client: httpx.AsyncClient) -> None:
    browser = TestClient(app, cookies=dict(admin_client.cookies))
    stranger = TestClient(app)
    own = {"Sec-Fetch-Site": "same-origin"}
    with browser.websocket_connect("/desk/live", headers=own) as socket:
        assert socket.receive_text() == "tester"

    for client, site, status in ((stranger, "same-origin", 401), (browser, "cross-site", 403)):
        with pytest.raises(WebSocketDenialResponse) as refused:
            client.websocket_connect("/desk/live", headers={"Sec-Fetch-Site": site}).__enter__()
        assert refused.value.status_code == status


async def test_a_session_of_the_services_own_stays_apart(tester: None) -> None:
    """Else the cookie of the service's users would have what the admin keeps, such as `user_id`."""
    transport = httpx.ASGITransport(SessionMiddleware(app, secret_key="a key of the service's own"))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as browser:
        for method, path in (("POST", "/admin/login"), ("GET", "/admin/logout")):
            answer = await browser.request(method, path, data=TESTER)
            assert answer.is_redirect
            set_here = [each.partition("=")[0] for each in answer.headers.get_list("set-cookie")]
            assert "admin_session" in set_here
            assert "session" not in set_here
