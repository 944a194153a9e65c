"""Sessions with a real SMTP server: what its answers, its absence and its certificate lead to."""

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import AuthResult, LoginPassword
from pydantic import SecretStr

from app.extensions.mail.models import MailMessage, MailState
from app.extensions.mail.settings import mail_settings
from app.extensions.mail.smtp import SmtpSession
from app.extensions.mail.tests.mail_server import MailServer, point_at
from kit.outbox import Outcome
from kit.testing import change_settings, free_port

UseServer = Callable[..., MailServer]


def mail(number: int = 1, **values: Any) -> MailMessage:
    return MailMessage(
        **{
            "message_id": f"{number}@example.com",
            "to_address": "ada@example.com",
            "subject": f"Order {number}",
            "text_body": "Dear Ada\n",
            "created_at": datetime.now(UTC),
            **values,
        }
    )


def send(*mails: MailMessage) -> list[Outcome]:
    """Send them over one session."""
    with SmtpSession(mail_settings) as session:
        return [session.send(each) for each in mails]


@contextmanager
def listener(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """Port of something that is no mail server: `serve` has each connection."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def accept() -> None:
            connection, _ = listening.accept()
            with connection:
                serve(connection)

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield listening.getsockname()[1]
        thread.join(10)
        assert not thread.is_alive()


class TestWhatIsTaken:
    def test_text_and_html_arrive(self, server: MailServer) -> None:
        [outcome] = send(mail(html_body="<p>Dear Zoë</p>", text_body="Dear Zoë\n"))

        assert outcome == Outcome(MailState.SENT)
        [received], [envelope] = server.mails, server.envelopes
        assert (envelope.mail_from, envelope.rcpt_tos) == ("shop@example.com", ["ada@example.com"])
        assert received["From"] == "The Shop <shop@example.com>"
        text, html = received.iter_parts()
        assert text.get_content().strip() == "Dear Zoë"
        assert html.get_content().strip() == "<p>Dear Zoë</p>"

    def test_several_mails_share_a_connection(self, server: MailServer) -> None:
        outcomes = send(*(mail(number) for number in range(5)))

        assert {outcome.state for outcome in outcomes} == {MailState.SENT}
        assert server.message_ids == [f"{number}@example.com" for number in range(5)]
        assert len(server.sessions) == 1

    def test_a_connection_that_the_server_closed_is_made_again(self, use_server: UseServer) -> None:
        server = use_server(timeout=0.2)
        with SmtpSession(mail_settings) as session:
            assert session.send(mail(1)).state is MailState.SENT
            time.sleep(0.5)
            assert session.send(mail(2)).state is MailState.SENT
        assert len(server.sessions) == 2

    @pytest.mark.parametrize(
        "text",
        [
            "before\r\n.\r\nMAIL FROM:<eve@example.com>\r\n",
            "before\n.\nMAIL FROM:<eve@example.com>\n",
            "before\r.\rMAIL FROM:<eve@example.com>\r",
            ".leading dot\n..two\n.\n",
        ],
    )
    def test_no_text_ends_the_mail_early(self, server: MailServer, text: str) -> None:
        [outcome] = send(mail(text_body=text))

        assert outcome.state is MailState.SENT
        [received] = server.mails
        assert received.get_content().splitlines() == text.splitlines()


class TestAnswers:
    @pytest.mark.parametrize(
        ("command", "answer", "state", "server_works"),
        [
            ("senders", "451 4.3.0 try later", MailState.QUEUED, False),
            ("senders", "553 5.7.1 not your sender", MailState.QUEUED, False),
            ("recipients", "450 4.2.0 greylisted", MailState.QUEUED, True),
            ("recipients", "421 4.3.2 closing", MailState.QUEUED, True),
            ("recipients", "550 5.1.1 no such user", MailState.BOUNCED, True),
            ("data", "452 4.3.1 disk full", MailState.QUEUED, True),
            ("data", "421 4.3.2 closing", MailState.QUEUED, True),
            ("data", "554 5.6.0 looks like spam", MailState.FAILED, True),
        ],
    )
    def test_lead_to_a_state(
        self, server: MailServer, command: str, answer: str, state: MailState, server_works: bool
    ) -> None:
        getattr(server, f"answers_to_{command}").append(answer)

        outcome, next_one = send(mail(1), mail(2))

        assert outcome == Outcome(state, answer, server_works)
        assert next_one.state is MailState.SENT
        assert server.message_ids == ["2@example.com"]

    def test_a_mail_above_the_server_s_limit_fails_alone(self, use_server: UseServer) -> None:
        server = use_server(data_size_limit=5000)
        outcome, next_one = send(mail(1, text_body="x" * 5000), mail(2))
        assert outcome.state is MailState.FAILED
        assert "552" in outcome.reason
        assert outcome.server_works
        assert next_one.state is MailState.SENT
        assert len(server.sessions) == 1

    def test_a_mail_that_cannot_be_composed_fails_and_the_next_is_sent(
        self, server: MailServer
    ) -> None:
        outcome, next_one = send(mail(1, subject="a\r\nBcc: eve@example.com"), mail(2))

        assert outcome.state is MailState.FAILED
        assert next_one.state is MailState.SENT
        assert server.message_ids == ["2@example.com"]


class TestServersThatDoNotWork:
    def test_nobody_listens(self, monkeypatch: pytest.MonkeyPatch) -> None:
        point_at(monkeypatch, free_port())
        [outcome] = send(mail())
        assert (outcome.state, outcome.server_works) == (MailState.QUEUED, False)
        assert "ConnectionRefusedError" in outcome.reason

    def test_a_name_that_dns_does_not_know(self, monkeypatch: pytest.MonkeyPatch) -> None:
        point_at(monkeypatch, 25, SMTP_HOST="smtp.invalid")
        [outcome] = send(mail())
        assert (outcome.state, outcome.server_works) == (MailState.QUEUED, False)

    @pytest.mark.parametrize(
        ("greeting", "reason"),
        [
            (b"554 5.3.2 not now\r\n", "554 5.3.2 not now"),
            (b"HTTP/1.1 400 Bad Request\r\n\r\n", "-1"),
            (b"", "SMTPServerDisconnected"),
        ],
    )
    def test_one_that_does_not_greet(
        self, monkeypatch: pytest.MonkeyPatch, greeting: bytes, reason: str
    ) -> None:
        with listener(lambda connection: connection.sendall(greeting)) as port:
            point_at(monkeypatch, port)
            [outcome] = send(mail())
        assert (outcome.state, outcome.server_works) == (MailState.QUEUED, False)
        assert reason in outcome.reason

    def test_one_that_says_nothing_is_not_waited_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        done = threading.Event()
        began = time.monotonic()
        with listener(lambda _: assert_set(done)) as port:
            point_at(monkeypatch, port, SMTP_TIMEOUT=0.3)
            [outcome] = send(mail())
            done.set()
        assert (outcome.state, outcome.server_works) == (MailState.QUEUED, False)
        assert time.monotonic() - began < 3

    def test_one_that_says_it_byte_by_byte_is_cut_off(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As tarpits do: each byte comes in time for smtplib's timeout."""

        def trickle(connection: socket.socket) -> None:
            with suppress(OSError):
                while True:
                    connection.sendall(b"2")
                    time.sleep(0.05)

        began = time.monotonic()
        with listener(trickle) as port:
            point_at(monkeypatch, port, SMTP_TIMEOUT=10, SEND_TIMEOUT=0.5)
            [outcome] = send(mail())
        assert time.monotonic() - began < 3
        assert outcome == Outcome(
            MailState.QUEUED, "took longer than 0.5 s (MAIL_SEND_TIMEOUT)", server_works=False
        )

    def test_one_that_may_have_taken_the_mail_is_asked_again(
        self, server: MailServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        change_settings(monkeypatch, mail_settings, SEND_TIMEOUT=0.5)
        server.before_accepting = lambda: time.sleep(1)
        [outcome] = send(mail())
        assert outcome.state is MailState.QUEUED
        assert server.message_ids == ["1@example.com"]


def use_tls(monkeypatch: pytest.MonkeyPatch, mode: str, certificates: Path) -> None:
    there = {"SMTP_HOST": "localhost", "SMTP_CA_FILE": certificates / "ca.crt"}
    change_settings(monkeypatch, mail_settings, SMTP_TLS=mode, **there)


class TestLogin:
    LOGIN = LoginPassword(b"shop", b"open, sesame: 1%20")

    @pytest.fixture
    def server(
        self,
        use_server: UseServer,
        server_context: ssl.SSLContext,
        certificates: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> MailServer:
        def authenticate(*arguments: object) -> AuthResult:
            # Not handled: the server says no itself.
            return AuthResult(success=arguments[-1] == self.LOGIN, handled=False)

        server = use_server(
            authenticator=authenticate, auth_required=True, tls_context=server_context
        )
        use_tls(monkeypatch, "starttls", certificates)
        return server

    def log_in_with(self, monkeypatch: pytest.MonkeyPatch, password: str) -> None:
        login = {"SMTP_USERNAME": "shop", "SMTP_PASSWORD": SecretStr(password)}
        change_settings(monkeypatch, mail_settings, **login)

    def test_the_wrong_password_ends_the_run(
        self, server: MailServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.log_in_with(monkeypatch, "wrong")
        [outcome] = send(mail())
        assert (outcome.state, outcome.server_works) == (MailState.QUEUED, False)
        assert outcome.reason.startswith("535 5.7.8")
        assert server.mails == []

    def test_a_server_that_wants_a_login_is_believed(self, server: MailServer) -> None:
        [outcome] = send(mail())
        assert (outcome.state, outcome.server_works) == (MailState.QUEUED, False)
        assert outcome.reason.startswith("530 5.7.0")

    def test_the_right_password(self, server: MailServer, monkeypatch: pytest.MonkeyPatch) -> None:
        self.log_in_with(monkeypatch, "open, sesame: 1%20")
        assert send(mail()) == [Outcome(MailState.SENT)]


class TestTls:
    @pytest.fixture(params=["starttls", "tls"])
    def server(
        self,
        request: pytest.FixtureRequest,
        use_server: UseServer,
        server_context: ssl.SSLContext,
        certificates: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> MailServer:
        if request.param == "tls":
            server = use_server(ssl_context=server_context)
        else:
            server = use_server(tls_context=server_context, require_starttls=True)
        use_tls(monkeypatch, request.param, certificates)
        return server

    def refused(self, server: MailServer) -> str:
        [outcome] = send(mail())
        assert (outcome.state, outcome.server_works) == (MailState.QUEUED, False)
        assert server.mails == []
        return outcome.reason

    def test_an_unknown_authority_is_refused(
        self, server: MailServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        change_settings(monkeypatch, mail_settings, SMTP_CA_FILE=None)
        assert "CERTIFICATE_VERIFY_FAILED" in self.refused(server)

    def test_a_certificate_for_another_name_is_refused(
        self, server: MailServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        change_settings(monkeypatch, mail_settings, SMTP_HOST="127.0.0.1")
        assert "CERTIFICATE_VERIFY_FAILED" in self.refused(server)

    def test_the_mail_crosses_encrypted(self, server: MailServer) -> None:
        assert send(mail()) == [Outcome(MailState.SENT)]
        assert server.encrypted == [True]


def test_without_the_starttls_that_is_wanted_nothing_is_sent(
    server: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when somebody on the way takes the offer out of the server's answer."""
    login = {"SMTP_USERNAME": "shop", "SMTP_PASSWORD": SecretStr("sesame")}
    change_settings(monkeypatch, mail_settings, SMTP_TLS="starttls", **login)
    [outcome] = send(mail())
    assert (outcome.state, outcome.server_works) == (MailState.QUEUED, False)
    assert "STARTTLS extension not supported" in outcome.reason
    assert server.mails == []


def assert_set(event: threading.Event) -> None:
    assert event.wait(10)
