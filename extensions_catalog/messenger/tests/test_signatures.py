"""Signatures of known bodies, as OpenSSL makes them too."""

import pytest

from app.extensions.messenger.signatures import is_signed, sign

# printf '%s' '{"text":"\u00e4\u00f6\u00e5"}' | openssl dgst -sha256 -hmac sesame
BODY = rb'{"text":"\u00e4\u00f6\u00e5"}'
SIGNATURE = "sha256=424e406ac23e52e0e085c7f54f829c7c3384facb9058f85bd74d48616e9f66d6"


@pytest.mark.parametrize(
    ("body", "signature", "secret"),
    [
        pytest.param(BODY, "", "sesame", id="none"),
        pytest.param(BODY, SIGNATURE.removeprefix("sha256="), "sesame", id="without its kind"),
        pytest.param(BODY, SIGNATURE.upper(), "sesame", id="upper case"),
        pytest.param(BODY, f"{SIGNATURE}0", "sesame", id="longer"),
        pytest.param(BODY, "sha256=ä", "sesame", id="not ASCII"),
        pytest.param(BODY + b" ", SIGNATURE, "sesame", id="another body"),
        pytest.param('{"text":"äöå"}'.encode(), SIGNATURE, "sesame", id="body written anew"),
        pytest.param(BODY, SIGNATURE, "Sesame", id="another secret"),
    ],
)
def test_anything_else_is_refused(body: bytes, signature: str, secret: str) -> None:
    assert not is_signed(body, signature, secret)


def test_the_bytes_as_they_are_sent_are_signed() -> None:
    assert sign(BODY, "sesame") == SIGNATURE
    assert is_signed(BODY, SIGNATURE, "sesame")
