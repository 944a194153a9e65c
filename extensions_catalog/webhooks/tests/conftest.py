"""Fixtures of the extension's tests."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from app.extensions.webhooks.settings import webhooks_settings
from app.extensions.webhooks.signatures import generate_secret
from app.extensions.webhooks.tasks import deliver_due
from app.extensions.webhooks.tests.receiver import Receiver
from kit import messages
from kit.testing import change_settings


@pytest.fixture(autouse=True)
def handlers() -> None:
    """As the API and every worker do when they start."""
    messages.setup_message_handlers()


@pytest.fixture
def private_targets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Allows 127.0.0.1, where the tests' receivers listen."""
    change_settings(monkeypatch, webhooks_settings, ALLOW_PRIVATE_TARGETS=True)


@pytest.fixture
def receiver(private_targets: None) -> Iterator[Receiver]:
    with Receiver(generate_secret()) as receiver:
        yield receiver


@pytest.fixture
def other_receiver(private_targets: None) -> Iterator[Receiver]:
    with Receiver(generate_secret()) as receiver:
        yield receiver


@pytest.fixture
def sent_tasks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the tasks that would have been sent."""
    names: list[str] = []
    monkeypatch.setattr(deliver_due, "delay", lambda: names.append(deliver_due.name))
    return names


@pytest.fixture
def switched_off(monkeypatch: pytest.MonkeyPatch) -> list[Mapping[str, Any]]:
    """What other parts of the service are told of subscriptions that were switched off."""
    payloads: list[Mapping[str, Any]] = []
    copies = {name: dict(known) for name, known in messages._handlers.items()}
    monkeypatch.setattr(messages, "_handlers", copies)

    @messages.handles("webhooks.subscription-switched-off")
    def note(message: messages.Message) -> None:
        payloads.append(message.payload)

    return payloads
