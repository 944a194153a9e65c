"""Settings, a Send API and messages for the tests of the extension."""

from collections.abc import Iterator

import pytest
from pydantic import SecretStr

from app.extensions.messenger.settings import messenger_settings
from app.extensions.messenger.tasks import send_due_replies
from app.extensions.messenger.tests.platform_server import PlatformServer
from kit import messages
from kit.messages import Message
from kit.testing import change_settings

APP_SECRET = "0123456789abcdef0123456789abcdef"
VERIFY_TOKEN = "meatyhamhock"
PAGE_TOKEN = "EAAB-page-token"


@pytest.fixture(autouse=True)
def configured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Secrets as a service that is in use has them, and no automatic reply."""
    change_settings(
        monkeypatch,
        messenger_settings,
        APP_SECRET=SecretStr(APP_SECRET),
        VERIFY_TOKEN=SecretStr(VERIFY_TOKEN),
        PAGE_TOKEN=SecretStr(PAGE_TOKEN),
        AUTO_REPLY=None,
    )


@pytest.fixture(autouse=True)
def handlers() -> None:
    """As the API and every worker do when they start."""
    messages.setup_message_handlers()


@pytest.fixture
def platform(monkeypatch: pytest.MonkeyPatch) -> Iterator[PlatformServer]:
    """The platform's Send API, at which the settings point."""
    with PlatformServer() as server:
        change_settings(monkeypatch, messenger_settings, GRAPH_URL=server.url)
        yield server


@pytest.fixture
def sent_tasks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the tasks that would have been sent to a worker."""
    names: list[str] = []
    monkeypatch.setattr(send_due_replies, "delay", lambda: names.append(send_due_replies.name))
    return names


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> list[Message]:
    """Messages of the extension's own."""
    heard: list[Message] = []
    # A copy for this test, to which it adds a handler.
    there = {name: dict(handlers) for name, handlers in messages._handlers.items()}
    monkeypatch.setattr(messages, "_handlers", there)
    for name in ("message-received", "queued", "sent", "failed"):
        messages.handles(f"messenger.{name}")(heard.append)
    return heard
