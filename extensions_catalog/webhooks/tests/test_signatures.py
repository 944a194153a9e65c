"""Signatures, as the specification's own implementation reads them."""

import base64
from datetime import UTC, datetime, timedelta

import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from app.extensions.webhooks.signatures import generate_secret, signed_headers

BODY = '{"type":"order.paid","timestamp":"2026-01-01T00:00:00.000Z","data":{"id":1}}'


class TestHeaders:
    def test_are_those_of_a_known_message(self) -> None:
        """An example of the tests that come with the implementations."""
        headers = signed_headers(
            ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            datetime.fromtimestamp(1614265330, UTC),
            '{"test": 2432232314}',
        )
        assert headers == {
            "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
            "webhook-timestamp": "1614265330",
            "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        }

    def test_are_understood_by_the_reference_implementation(self) -> None:
        secret = generate_secret()
        headers = signed_headers([secret], "msg_1", datetime.now(UTC), BODY)
        assert Webhook(secret).verify(BODY, headers)["data"] == {"id": 1}

    @pytest.mark.parametrize(
        ("body", "changed"),
        [(BODY + " ", {}), (BODY, {"webhook-id": "msg_2"}), (BODY, {"webhook-timestamp": "now"})],
    )
    def test_do_not_fit_anything_else(self, body: str, changed: dict[str, str]) -> None:
        secret, now = generate_secret(), datetime.now(UTC)
        later = str(int((now + timedelta(seconds=1)).timestamp()))
        headers = signed_headers([secret], "msg_1", now, BODY)
        headers |= {name: value.replace("now", later) for name, value in changed.items()}
        with pytest.raises(WebhookVerificationError, match="No matching signature"):
            Webhook(secret).verify(body, headers)

    def test_with_two_secrets_fit_either(self) -> None:
        before, after, other = generate_secret(), generate_secret(), generate_secret()
        headers = signed_headers([after, before], "msg_1", datetime.now(UTC), BODY)
        for known in (before, after):
            Webhook(known).verify(BODY, headers)
        with pytest.raises(WebhookVerificationError):
            Webhook(other).verify(BODY, headers)


def test_secrets_are_random_and_of_the_length_that_is_asked_for() -> None:
    first, second = generate_secret(), generate_secret()
    assert first != second
    assert first.startswith("whsec_")
    assert 24 <= len(base64.b64decode(first.removeprefix("whsec_"), validate=True)) <= 64
