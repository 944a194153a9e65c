"""What of receivers' secrets stands in the database, and what opens it."""

from collections.abc import Callable
from importlib import import_module

import pytest
from alembic.migration import MigrationContext
from alembic.operations import Operations
from pydantic import SecretStr
from sqlalchemy import text
from sqlmodel import Session

from app.core.config import settings
from app.extensions.webhooks import encryption
from app.extensions.webhooks.models import WebhookSubscription
from app.extensions.webhooks.settings import webhooks_settings
from app.extensions.webhooks.subscriptions import replace_secret
from app.extensions.webhooks.tasks import deliver_due, encrypt_secrets
from app.extensions.webhooks.tests.receiver import Receiver
from app.extensions.webhooks.tests.rows import a_subscription, add, deliveries, send

Stored = Callable[[], list[str | None]]


@pytest.fixture
def subscription(sync_db_session: Session, receiver: Receiver) -> WebhookSubscription:
    subscription = a_subscription(receiver)
    replace_secret(subscription)
    receiver.secret = subscription.secret
    add(sync_db_session, subscription)
    return subscription


@pytest.fixture
def stored(sync_db_session: Session, subscription: WebhookSubscription) -> Stored:
    """Asks what stands in the database."""
    statement = text("SELECT secret, previous_secret FROM webhooks_subscription")
    return lambda: list(sync_db_session.connection().execute(statement).one())


@pytest.fixture
def change_key(monkeypatch: pytest.MonkeyPatch, sync_db_session: Session) -> Callable[[], None]:
    def change() -> None:
        monkeypatch.setitem(settings.__dict__, "secret_key", "another key, of 32 letters or more")
        sync_db_session.expire_all()

    return change


def test_none_is_readable(stored: Stored, subscription: WebhookSubscription) -> None:
    assert subscription.secret.startswith("whsec_")
    assert [secret and secret[:6] for secret in stored()] == ["gAAAAA", "gAAAAA"]


def test_plain_ones_of_an_older_release_work_and_are_encrypted_at_night(
    sync_db_session: Session,
    subscription: WebhookSubscription,
    receiver: Receiver,
    stored: Stored,
) -> None:
    before = [subscription.secret, subscription.previous_secret]
    statement = text("UPDATE webhooks_subscription SET secret = :secret, previous_secret = NULL")
    sync_db_session.connection().execute(statement, {"secret": before[0]})
    sync_db_session.commit()
    assert stored() == [before[0], None]
    send(sync_db_session)
    deliver_due()
    assert receiver.documents[0]

    assert encrypt_secrets() == 1
    assert encrypt_secrets() == 0
    assert [secret and secret[:6] for secret in stored()] == ["gAAAAA", None]
    sync_db_session.refresh(subscription)
    assert subscription.secret == before[0]


def test_a_changed_key_needs_the_former_one_until_night(
    sync_db_session: Session,
    subscription: WebhookSubscription,
    stored: Stored,
    change_key: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    secrets = [subscription.secret, subscription.previous_secret]
    former = settings.secret_key
    change_key()
    with monkeypatch.context() as patched:
        known = webhooks_settings.model_copy(update={"FORMER_SECRET_KEY": SecretStr(former)})
        patched.setattr(encryption, "webhooks_settings", known)
        assert [subscription.secret, subscription.previous_secret] == secrets
        assert encrypt_secrets() == 1
    sync_db_session.expire_all()
    assert [subscription.secret, subscription.previous_secret] == secrets


def test_one_that_no_key_opens_is_told_and_can_be_replaced(
    sync_db_session: Session,
    subscription: WebhookSubscription,
    receiver: Receiver,
    stored: Stored,
    change_key: Callable[[], None],
) -> None:
    before = stored()
    change_key()
    assert encrypt_secrets() == 1
    assert stored() == before, "nothing is lost: the former key still opens them"
    send(sync_db_session)
    deliver_due()
    assert receiver.documents == []
    said = deliveries(sync_db_session)[0].last_error
    assert said
    assert "WEBHOOKS_FORMER_SECRET_KEY" in said

    replace_secret(subscription)
    add(sync_db_session, subscription)
    receiver.secret = subscription.secret
    send(sync_db_session)
    deliver_due()
    assert receiver.documents[0]


def test_a_downgrade_leaves_plain_ones(
    sync_db_session: Session, subscription: WebhookSubscription, stored: Stored
) -> None:
    secrets = [subscription.secret, subscription.previous_secret]
    revision = import_module(
        "app.extensions.webhooks.migrations.webhooks_0002_encrypted_secrets",
    )
    sync_db_session.commit()
    with Operations.context(MigrationContext.configure(sync_db_session.connection())):
        revision.downgrade()
        assert stored() == secrets
        revision.upgrade()
    assert stored() == secrets
