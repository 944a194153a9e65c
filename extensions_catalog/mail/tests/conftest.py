"""An SMTP server, templates and mails for the tests of the extension."""

import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from jinja2 import ChoiceLoader, DictLoader

from app.core.templates import templates
from app.extensions.mail.tasks import send_due_mail
from app.extensions.mail.tests.mail_server import MailServer, point_at
from kit import messages
from kit.messages import Message

TEMPLATES = {
    "mail/shop.order-shipped.txt": (
        "Subject: Order {{ order }} is on its way\n\nDear {{ name }},\nit comes on {{ day }}.\n"
    ),
    "mail/shop.order-shipped.html": "<p>Dear {{ name }}, it comes on <b>{{ day }}</b>.</p>",
    "mail/shop.order-cancelled.txt": "Subject: Order {{ order }} is cancelled\n\nAs you wished.\n",
}


@pytest.fixture(autouse=True)
def shop_templates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Templates for the messages of a shop, beside those that there are."""
    there = templates.env.loader
    assert there is not None
    monkeypatch.setattr(templates.env, "loader", ChoiceLoader([DictLoader(TEMPLATES), there]))


@pytest.fixture
def use_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., MailServer]]:
    """Starts a server with options of aiosmtpd's, and points the settings at it without TLS."""
    with ExitStack() as stack:

        def start(**options: object) -> MailServer:
            server = stack.enter_context(MailServer(**options))
            point_at(monkeypatch, server.port)
            return server

        yield start


@pytest.fixture
def server(use_server: Callable[..., MailServer]) -> MailServer:
    """A server that wants no login."""
    return use_server()


@pytest.fixture
def server_context(certificates: Path) -> ssl.SSLContext:
    """TLS for a server called `localhost`."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates / "localhost.crt", certificates / "localhost.key")
    return context


@pytest.fixture
def sent_tasks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the extension's tasks that would have been sent to a worker."""
    names: list[str] = []
    monkeypatch.setattr(send_due_mail, "delay", lambda: names.append(send_due_mail.name))
    return names


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> list[Message]:
    """Messages that tell what became of mails."""
    heard: list[Message] = []
    # A copy for this test, to which it adds a handler.
    there = {name: dict(handlers) for name, handlers in messages._handlers.items()}
    monkeypatch.setattr(messages, "_handlers", there)
    for name in ("mail.queued", "mail.bounced", "mail.failed"):
        messages.handles(name)(heard.append)
    return heard
