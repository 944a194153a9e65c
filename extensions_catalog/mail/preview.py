"""A mail's HTML in a browser, kept from doing anything there."""

from fastapi.responses import HTMLResponse

from app.extensions.mail.models import MailMessage

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; img-src https: data:; style-src 'unsafe-inline'; "
    "frame-ancestors 'self'; sandbox allow-popups"
)
"""No scripts, no forms, and nothing of this service's origin within reach."""


def html_preview(mail: MailMessage) -> HTMLResponse:
    """The HTML as it was sent, for a frame of a page."""
    headers = {"Content-Security-Policy": CONTENT_SECURITY_POLICY, "Cache-Control": "no-store"}
    return HTMLResponse(mail.html_body or "", headers=headers)
