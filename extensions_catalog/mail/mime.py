"""A mail of the outbox as the bytes that travel."""

from email.header import Header
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP

from app.extensions.mail.models import MailMessage
from app.extensions.mail.settings import MailSettings

# ASCII alone, whatever is in it: a server without 8BITMIME takes it, and no relay has to change it.
_POLICY = SMTP.clone(cte_type="7bit")


def compose(mail: MailMessage, settings: MailSettings) -> EmailMessage:
    """The mail with its headers; composed again, it is the same but for the MIME boundary.

    Raises:
        ValueError: when a header would hold a line break.
    """
    message = EmailMessage(_POLICY)
    _set_header(message, "From", settings.from_name, settings.FROM)
    _set_header(message, "To", mail.to_name, mail.to_address)
    _set_header(message, "Subject", mail.subject)
    message["Date"] = mail.created_at
    message["Message-ID"] = f"<{mail.message_id}>"
    # Keeps answering machines from answering: https://www.rfc-editor.org/rfc/rfc3834#section-5
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(mail.text_body or "")
    if mail.html_body is not None:
        message.add_alternative(mail.html_body, subtype="html")
    return message


def _set_header(message: EmailMessage, name: str, text: str, address: str = "") -> None:
    message[name] = Address(text, addr_spec=address) if address else text
    if not text.isascii() or "=?" in text:
        # Folding by the policy loses spaces between encoded words, in some releases of Python
        # (https://github.com/python/cpython/issues/144156), and where somebody entered an encoded
        # word it is decoded, line breaks too (CVE-2024-6923). This encodes all of the text.
        words = Header(text, "utf-8", header_name=name).encode()
        del message[name]
        message.set_raw(name, f"{words}\n <{address}>" if address else words)
