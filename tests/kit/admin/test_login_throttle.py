import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from select import select as select_ready

import httpx
import pytest
from sqlalchemy.orm import sessionmaker
from sqlmodel import Session, select

from app.core.config import BASE_DIR, settings
from app.main import app
from kit.admin._audit import AuditedSession
from kit.admin._authentication import (
    USERNAME_FACTOR,
    LoginAttempt,
    TooManyAttemptsError,
    reserve_attempt,
)
from kit.context import client_address, client_network
from kit.models import AdminUser, AuditAction, AuditEntry
from kit.security import set_admin_password
from kit.testing import own_database, run_api
from kit.tests.strangers import ANSWER_SECONDS, Stranger

PASSWORD = "correct horse battery staple"
LIMIT = settings.ADMIN_LOGIN_ATTEMPTS
WINDOW = timedelta(seconds=settings.ADMIN_LOGIN_WINDOW)


def attempt(
    user: AdminUser | None = None, client: str = "203.0.113.9", device: str = ""
) -> LoginAttempt:
    return LoginAttempt(
        username=user.username if user else "nobody", user=user, client=client, device=device
    )


def failures(session: Session) -> int:
    return len(
        session.exec(select(AuditEntry).where(AuditEntry.action == AuditAction.LOGIN_FAILED)).all()
    )


@pytest.fixture
def ada(sync_db_session: Session) -> AdminUser:
    """An account whose password was set a day ago."""
    user = set_admin_password(sync_db_session, "ada", PASSWORD)
    user.password_changed_at = datetime.now(UTC) - timedelta(days=1)
    sync_db_session.commit()
    return user


class TestClientLimit:
    def test_refuses_after_the_limit(self, sync_db_session: Session, ada: AdminUser) -> None:
        for _ in range(LIMIT):
            reserve_attempt(sync_db_session, attempt(ada))
        with pytest.raises(TooManyAttemptsError) as caught:
            reserve_attempt(sync_db_session, attempt(ada))
        assert 0 < caught.value.retry_after <= settings.ADMIN_LOGIN_WINDOW

    def test_counts_all_usernames_together(self, sync_db_session: Session, ada: AdminUser) -> None:
        for _ in range(LIMIT):
            reserve_attempt(sync_db_session, attempt())
        with pytest.raises(TooManyAttemptsError):
            reserve_attempt(sync_db_session, attempt(ada))

    def test_writes_nothing_when_it_refuses(self, sync_db_session: Session) -> None:
        for _ in range(LIMIT):
            reserve_attempt(sync_db_session, attempt())
        for _ in range(3):
            with pytest.raises(TooManyAttemptsError):
                reserve_attempt(sync_db_session, attempt())
        assert failures(sync_db_session) == LIMIT

    def test_another_client_is_not_concerned(self, sync_db_session: Session) -> None:
        for _ in range(LIMIT):
            reserve_attempt(sync_db_session, attempt())
        reserve_attempt(sync_db_session, attempt(client="203.0.113.10"))

    def test_forgets_after_the_window(self, sync_db_session: Session) -> None:
        for age in (WINDOW + timedelta(seconds=1), WINDOW / 2):
            for _ in range(LIMIT - 1):
                sync_db_session.add(
                    AuditEntry(
                        action=AuditAction.LOGIN_FAILED,
                        client="203.0.113.9",
                        occurred_at=datetime.now(UTC) - age,
                    )
                )
        sync_db_session.commit()
        reserve_attempt(sync_db_session, attempt())
        with pytest.raises(TooManyAttemptsError) as caught:
            reserve_attempt(sync_db_session, attempt())
        assert caught.value.retry_after == pytest.approx(WINDOW.seconds / 2, abs=30)


@pytest.mark.slow
class TestUsernameLimit:
    def guess_from_many_addresses(self, session: Session, user: AdminUser | None) -> None:
        for number in range(LIMIT * USERNAME_FACTOR):
            reserve_attempt(session, attempt(user, client=f"198.51.100.{number}"))

    @pytest.mark.parametrize("known", [True, False])
    def test_refuses_unknown_browsers_for_any_name(
        self, sync_db_session: Session, ada: AdminUser, *, known: bool
    ) -> None:
        user = ada if known else None
        self.guess_from_many_addresses(sync_db_session, user)
        with pytest.raises(TooManyAttemptsError):
            reserve_attempt(sync_db_session, attempt(user))

    def test_never_locks_out_a_known_browser(
        self, sync_db_session: Session, ada: AdminUser
    ) -> None:
        self.guess_from_many_addresses(sync_db_session, ada)
        reserve_attempt(sync_db_session, attempt(ada, device="known"))

    def test_a_new_password_forgets(self, sync_db_session: Session, ada: AdminUser) -> None:
        self.guess_from_many_addresses(sync_db_session, ada)
        for _ in range(LIMIT):
            reserve_attempt(sync_db_session, attempt(client="203.0.113.77"))
        user = set_admin_password(sync_db_session, "ada", "another password")
        reserve_attempt(sync_db_session, attempt(user, client="203.0.113.77"))


class TestDevice:
    def test_has_its_own_count(self, sync_db_session: Session, ada: AdminUser) -> None:
        for _ in range(LIMIT):
            reserve_attempt(sync_db_session, attempt(ada))
        for _ in range(LIMIT):
            reserve_attempt(sync_db_session, attempt(ada, device="known"))
        with pytest.raises(TooManyAttemptsError):
            reserve_attempt(sync_db_session, attempt(ada, device="known"))

    async def test_lets_the_administrator_in_while_the_address_is_blocked(
        self,
        admin_client: httpx.AsyncClient,
        anonymous_client: httpx.AsyncClient,
        sync_db_session: Session,
    ) -> None:
        tester = sync_db_session.exec(select(AdminUser)).one()
        tester.password_changed_at = datetime.now(UTC) - timedelta(days=1)
        sync_db_session.add(tester)
        sync_db_session.commit()
        wrong = {"username": "tester", "password": "wrong"}
        for _ in range(LIMIT):
            assert (await anonymous_client.post("/admin/login", data=wrong)).status_code == 400
        right = {"username": "tester", "password": PASSWORD}
        assert (await anonymous_client.post("/admin/login", data=right)).status_code == 429
        assert (await admin_client.post("/admin/login", data=right)).status_code == 302

    async def test_counts_for_its_own_user_only(
        self,
        admin_client: httpx.AsyncClient,
        anonymous_client: httpx.AsyncClient,
        ada: AdminUser,
    ) -> None:
        wrong = {"username": "ada", "password": "wrong"}
        for _ in range(LIMIT):
            await anonymous_client.post("/admin/login", data=wrong)
        assert (await admin_client.post("/admin/login", data=wrong)).status_code == 429


class TestAnswer:
    async def test_tells_when_to_come_back(self, anonymous_client: httpx.AsyncClient) -> None:
        form = {"username": "nobody", "password": "wrong"}
        for _ in range(LIMIT):
            await anonymous_client.post("/admin/login", data=form)
        answer = await anonymous_client.post("/admin/login", data=form)
        assert answer.status_code == 429
        assert 0 < int(answer.headers["Retry-After"]) <= settings.ADMIN_LOGIN_WINDOW
        assert "Too many attempts. Try again in 15 min." in answer.text

    async def test_the_right_password_is_not_even_looked_at(
        self, anonymous_client: httpx.AsyncClient, ada: AdminUser, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for _ in range(LIMIT):
            await anonymous_client.post("/admin/login", data={"username": "ada", "password": "no"})

        def fail(*_: object) -> bool:
            raise AssertionError("the password was looked at")

        monkeypatch.setattr("kit.admin._authentication.verify_password", fail)
        right = {"username": "ada", "password": PASSWORD}
        assert (await anonymous_client.post("/admin/login", data=right)).status_code == 429


@pytest.mark.slow
def test_attempts_at_the_same_time_count_each_other(
    committing_sessions: sessionmaker[AuditedSession],
) -> None:
    count = 4 * LIMIT
    barrier = threading.Barrier(count)

    def try_once(_: int) -> bool:
        with committing_sessions() as session:
            session.connection()
            barrier.wait(timeout=30)
            try:
                reserve_attempt(session, attempt())
            except TooManyAttemptsError:
                return False
            return True

    with ThreadPoolExecutor(count) as pool:
        admitted = list(pool.map(try_once, range(count)))
    assert sum(admitted) == LIMIT


STRANGERS = 300


@pytest.mark.slow
def test_a_known_browser_does_not_wait_behind_guesses(test_database: str) -> None:
    with own_database() as environment, ExitStack() as stack:

        def run(*command: str) -> str:
            command = (sys.executable, "-m", *command)
            all_of_it = {**os.environ, **environment}
            return subprocess.run(
                command, cwd=BASE_DIR, env=all_of_it, check=True, stdout=subprocess.PIPE, text=True
            ).stdout

        run("alembic", "upgrade", "heads")
        password = run("kit.commands.admin_password", "set", "ada").split()[-1]
        form = {"username": "ada", "password": password}
        address = stack.enter_context(run_api(environment | {"API_WORKERS": "1"}))
        http = stack.enter_context(httpx.Client(base_url=address, timeout=ANSWER_SECONDS))
        assert http.post("/admin/login", data=form).status_code == 302
        guess = b"username=ada&password=wrong"
        head = f"POST /admin/login HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(guess)}\r\n"
        kind = "content-type: application/x-www-form-urlencoded\r\n\r\n"
        strangers = [
            stack.enter_context(closing(Stranger(address).connect())) for _ in range(STRANGERS)
        ]
        for each in strangers:
            each.sendall(f"{head}{kind}".encode() + guess)
        assert http.post("/admin/login", data=form).status_code == 302
        answered, _, _ = select_ready(strangers, [], [], 0)
        assert len(answered) < STRANGERS / 2


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::", "2001:db8:1:2::/64"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("testclient", "testclient"),
        ("", ""),
    ],
)
def test_one_client(address: str, network: str) -> None:
    assert client_network(address) == network


@pytest.mark.parametrize(
    ("peer", "reported", "client"),
    [
        ("10.0.0.7", "203.0.113.9", "203.0.113.9 via 10.0.0.7"),
        ("127.0.0.1", "198.51.100.1, 203.0.113.9:4711", "203.0.113.9 via 127.0.0.1"),
        ("fd00::7", "[2001:db8:1:2::9]:80", "2001:db8:1:2::/64 via fd00::7"),
        (None, "203.0.113.9", "203.0.113.9 via "),
        # A named proxy: the server has put an address of the header in the place of the proxy's.
        ("203.0.113.9", "203.0.113.9:4711", "203.0.113.9"),
        ("10.0.0.7", "unknown", "10.0.0.7"),
        ("10.0.0.7", None, "10.0.0.7"),
        # Anybody on the internet may write the header.
        ("8.8.8.8", "203.0.113.9", "8.8.8.8"),
    ],
)
def test_a_client_behind_a_proxy(peer: str | None, reported: str | None, client: str) -> None:
    headers = [(b"x-forwarded-for", reported.encode())] if reported else []
    scope = {"client": (peer, 50000) if peer else None, "headers": headers}
    assert client_network(client_address(scope)) == client


@pytest.mark.parametrize("proxy", ["10.0.0.7", "8.8.8.8"])
async def test_a_proxy_that_is_not_named_locks_no_one_out(
    sync_db_session: Session, ada: AdminUser, proxy: str
) -> None:
    transport = httpx.ASGITransport(app=app, client=(proxy, 50000))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
        statuses = [
            (
                await http.post(
                    "/admin/login",
                    data={"username": "ada", "password": password},
                    headers={"X-Forwarded-For": reported},
                )
            ).status_code
            for reported, password in [
                *[("203.0.113.9", "a guess")] * (LIMIT + 1),
                ("203.0.113.10", PASSWORD),
            ]
        ]
    # Behind a public address callers are not told apart, so it may fail ten times as often.
    assert statuses[:LIMIT] == [400] * LIMIT
    assert statuses[LIMIT] == (400 if proxy == "8.8.8.8" else 429)
    assert statuses[-1] == 302
