"""Requests over TLS, to a receiver whose certificate an authority of the test has signed."""

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.extensions.webhooks import client
from app.extensions.webhooks.client import post
from app.extensions.webhooks.signatures import generate_secret
from app.extensions.webhooks.tests.receiver import Receiver


@pytest.fixture
def receiver(private_targets: None, certificates: Path) -> Iterator[Receiver]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates / "localhost.crt", certificates / "localhost.key")
    with Receiver(generate_secret(), context) as receiver:
        yield receiver


@pytest.fixture
def known_authority(certificates: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates / "ca.crt"))
    client._ssl_context.cache_clear()
    yield
    client._ssl_context.cache_clear()


def test_the_certificate_is_the_names_although_an_address_is_connected_to(
    receiver: Receiver, known_authority: None
) -> None:
    outcome = post(f"https://localhost:{receiver.port}/", {}, "{}", timeout=5)
    assert (outcome.status, outcome.error) == (200, None)
    assert receiver.received[0].headers["host"] == f"localhost:{receiver.port}"


def test_another_hosts_certificate_is_refused(receiver: Receiver, known_authority: None) -> None:
    outcome = post(f"https://127.0.0.1:{receiver.port}/", {}, "{}", timeout=5)
    assert "certificate is not valid for '127.0.0.1'" in (outcome.error or "")
    assert receiver.received == []


def test_an_unknown_authority_is_refused(receiver: Receiver) -> None:
    outcome = post(f"https://localhost:{receiver.port}/", {}, "{}", timeout=5)
    assert "CERTIFICATE_VERIFY_FAILED" in (outcome.error or "")
    assert receiver.received == []
