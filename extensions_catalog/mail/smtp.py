"""Handing mails to the SMTP server, and what its answers mean."""

import logging
import smtplib
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from app.extensions.mail.mime import compose
from app.extensions.mail.models import MailMessage, MailState
from app.extensions.mail.rendering import one_line
from app.extensions.mail.settings import MailSettings
from kit.context import get_task_id
from kit.outbox import Outcome

logger = logging.getLogger(__name__)

PERMANENT = 500
"""Reply codes from here on say that the same command will fail again.

Source: https://www.rfc-editor.org/rfc/rfc5321#section-4.2.1
"""

READY = 220
DONE = 250
TOO_LARGE = 552
"""To a sender's address: the mail is larger than the server takes.

Source: https://www.rfc-editor.org/rfc/rfc1870#section-6.1
"""


class SmtpSession:
    """A connection to the SMTP server for several mails, made when the first one is sent."""

    def __init__(self, settings: MailSettings) -> None:
        self._settings = settings
        self._connection: smtplib.SMTP | None = None
        self._took_too_long = False

    def __enter__(self) -> "SmtpSession":
        return self

    def __exit__(self, *_: object) -> None:
        # Whatever happens now, the mails are the server's.
        with suppress(smtplib.SMTPException, OSError), self._deadline():
            if self._connection is not None:
                self._connection.quit()
        self._disconnect()

    def send(self, mail: MailMessage) -> Outcome:
        """Hand one mail to the server; takes `MAIL_SEND_TIMEOUT` seconds at the most."""
        try:
            content = compose(mail, self._settings).as_bytes()
        except ValueError as error:
            return Outcome(MailState.FAILED, one_line(str(error)))
        try:
            with self._deadline():
                self._connect().sendmail(self._settings.FROM, [mail.to_address], content)
        except smtplib.SMTPRecipientsRefused as error:
            code, answer = error.recipients[mail.to_address]
            return Outcome(_if_permanent(code, MailState.BOUNCED), _words(code, answer))
        except smtplib.SMTPDataError as error:
            state = _if_permanent(error.smtp_code, MailState.FAILED)
            return Outcome(state, _words(error.smtp_code, error.smtp_error))
        except (smtplib.SMTPException, OSError) as error:
            if isinstance(error, smtplib.SMTPSenderRefused) and error.smtp_code == TOO_LARGE:
                return Outcome(MailState.FAILED, _words(error.smtp_code, error.smtp_error))
            self._disconnect()
            reason = self._explain(error)
            logger.warning("%sthe SMTP server takes no mail: %s", get_task_id(), reason)
            return Outcome(MailState.QUEUED, reason, server_works=False)
        return Outcome(MailState.SENT)

    def _connect(self) -> smtplib.SMTP:
        """The connection there is, if the server still keeps it, or else a new one."""
        if self._connection is not None:
            with suppress(smtplib.SMTPException, OSError):
                if self._connection.noop()[0] == DONE:
                    return self._connection
            self._disconnect()
        connection = self._connection = self._unconnected()
        host = connection._host = self._settings.SMTP_HOST or ""  # type: ignore[attr-defined]  # noqa: SLF001
        code, answer = connection.connect(host, self._settings.port)
        if code != READY:
            raise smtplib.SMTPConnectError(code, answer)
        if self._settings.SMTP_TLS == "starttls":
            connection.starttls(context=self._tls_context())
        if self._settings.SMTP_USERNAME and self._settings.SMTP_PASSWORD:
            password = self._settings.SMTP_PASSWORD.get_secret_value()
            connection.login(self._settings.SMTP_USERNAME, password)
        # A server that has the whole mail may take its time to say so, and who gives up on it sends
        # the mail twice: https://www.rfc-editor.org/rfc/rfc1047
        if connection.sock is not None:
            connection.sock.settimeout(self._settings.SEND_TIMEOUT)
        return connection

    def _unconnected(self) -> smtplib.SMTP:
        # Given the host here, smtplib would connect at once, out of the deadline's reach. Without a
        # name for itself it would ask DNS for one.
        timeout, name = self._settings.SMTP_TIMEOUT, self._settings.from_domain
        if self._settings.SMTP_TLS == "tls":
            return smtplib.SMTP_SSL(
                local_hostname=name, timeout=timeout, context=self._tls_context()
            )
        return smtplib.SMTP(local_hostname=name, timeout=timeout)

    def _tls_context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self._settings.SMTP_CA_FILE)

    @contextmanager
    def _deadline(self) -> Iterator[None]:
        """Cuts the connection in time: smtplib's own timeout begins anew with each byte."""
        self._took_too_long = False
        timer = threading.Timer(self._settings.SEND_TIMEOUT, self._cut)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _cut(self) -> None:
        self._took_too_long = True
        sock = self._connection and self._connection.sock
        if sock:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _explain(self, error: Exception) -> str:
        if self._took_too_long:
            return f"took longer than {self._settings.SEND_TIMEOUT:g} s (MAIL_SEND_TIMEOUT)"
        if isinstance(error, smtplib.SMTPResponseException):
            return _words(error.smtp_code, error.smtp_error)
        return one_line(f"{type(error).__name__}: {error}")


def _if_permanent(code: int, state: MailState) -> MailState:
    return state if code >= PERMANENT else MailState.QUEUED


def _words(code: int, answer: bytes | str) -> str:
    text = answer.decode("utf-8", "replace") if isinstance(answer, bytes) else answer
    return one_line(f"{code} {text}")
