"""What counts as an address."""

import pytest

from app.extensions.mail.addresses import AddressError, parse_address


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("", "must have an @-sign"),
        ("ada", "must have an @-sign"),
        ("ada@", "must be something after the @-sign"),
        ("ada@example", "should have a period"),
        ("ada@example.com, eve@example.com", "after the @-sign contains invalid characters"),
        ("ada@example.com\r\nBcc: eve@example.com", "contains invalid characters"),
        ("ada@example.com\n", "contains invalid characters"),
        ("ada\r\nRCPT TO:<eve@example.com>@example.com", "invalid characters"),
        ("ada@example.com\x00", "contains invalid characters"),
        ("Ada <ada@example.com>", "display name"),
        ("ada@[127.0.0.1]", "bracketed IP address"),
        (f"ada@{'b.' * 130}com", "too long"),
        ("zoë@example.com", "Internationalized characters before the @-sign are not supported"),
    ],
)
def test_refuses(value: str, reason: str) -> None:
    with pytest.raises(AddressError, match=reason):
        parse_address(value)


@pytest.mark.parametrize(
    ("value", "address"),
    [
        ("Ada.Lovelace+orders@example.com", "Ada.Lovelace+orders@example.com"),
        ("ada@EXAMPLE.com", "ada@example.com"),
        ("ada@exämple.com", "ada@xn--exmple-cua.com"),
        ("ada@例え.jp", "ada@xn--r8jz45g.jp"),
    ],
)
def test_gives_it_in_ascii(value: str, address: str) -> None:
    assert parse_address(value) == address
