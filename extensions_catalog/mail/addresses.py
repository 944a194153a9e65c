"""Mail addresses, as SMTP and a header can hold them."""

from email_validator import EmailNotValidError, validate_email


class AddressError(ValueError):
    """Something is no address that mail can be sent to; the message says why."""


def parse_address(value: str) -> str:
    """The address in ASCII: `ada@exämple.com` is `ada@xn--exmple-cua.com`.

    Nothing is asked of DNS. A line break, a second address or a name beside the address is refused,
    so that what comes back is safe in a header and in an SMTP command.

    Raises:
        AddressError: when it is no address, or has characters beyond ASCII before the @, which many
            servers do not take.
    """
    try:
        # `allow_smtputf8=False` promises an `ascii_email`.
        parsed = validate_email(value, allow_smtputf8=False, check_deliverability=False)
    except EmailNotValidError as error:
        raise AddressError(str(error)) from None
    return str(parsed.ascii_email)
