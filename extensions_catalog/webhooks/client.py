"""Sending one request: it goes to checked addresses alone, and ends by a deadline."""

import ssl
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from http import HTTPStatus
from typing import Any

import httpcore2
from pydantic_core import Url

from app.extensions.webhooks.addresses import TargetRefusedError, resolve

CONNECT_SECONDS = 5
"""For each address of a host."""
MOST_ADDRESSES = 3
LONGEST_ANSWER = 200
"""Bytes of a refusal that are kept: enough for a receiver to say what is wrong."""

_PIECE = 16384
"""Bytes that are sent between two looks at the clock."""


@dataclass(frozen=True)
class Outcome:
    """What came of a request."""

    status: int | None = None
    """HTTP status; nothing when there was no answer."""
    error: str | None = None
    """Why it failed; nothing when the receiver has taken the message."""
    retry_after: float | None = None
    """Seconds for which the receiver asks to be left alone."""


def post(url: str, headers: dict[str, str], body: str, *, timeout: float) -> Outcome:
    """Send a request and tell what came of it; redirects are not followed.

    Args:
        url: as `check_url` gave it.
        headers: beside those that every request has.
        body: what to send.
        timeout: seconds for all that follows the look-up of the host's name.
    """
    try:
        return _post(Url(url), headers, body.encode(), timeout)
    except TargetRefusedError as error:
        return Outcome(error=str(error))
    except httpcore2.TimeoutException:
        return Outcome(error=f"no answer within {timeout:g} s")
    except (httpcore2.NetworkError, httpcore2.ProtocolError, OSError) as error:
        return Outcome(error=f"{type(error).__name__}: {error}")


def _post(url: Url, headers: dict[str, str], body: bytes, timeout: float) -> Outcome:
    host, path = url.host or "", url.path or "/"
    target = f"{path}?{url.query}" if url.query else path
    with (
        httpcore2.ConnectionPool(_ssl_context(), network_backend=_Network(timeout)) as connections,
        connections.stream(
            "POST",
            httpcore2.URL(scheme=url.scheme, host=host, port=url.port, target=target),
            headers=[*headers.items(), ("accept-encoding", "identity")],
            content=body,
            extensions={"sni_hostname": host.strip("[]")},
        ) as response,
    ):
        if HTTPStatus.OK <= response.status < HTTPStatus.MULTIPLE_CHOICES:
            return Outcome(response.status)
        error = f"answered {response.status}: {_first_bytes(response)}"
        return Outcome(response.status, error, _retry_after(response))


@cache
def _ssl_context() -> ssl.SSLContext:
    """Made once: reading the system's certificates takes longer than many a request."""
    return httpcore2.default_ssl_context()


def _first_bytes(response: httpcore2.Response) -> str:
    received = b""
    try:
        for piece in response.iter_stream():
            received += piece[:LONGEST_ANSWER]
            if len(received) >= LONGEST_ANSWER:
                break
    except (httpcore2.NetworkError, httpcore2.ProtocolError, httpcore2.TimeoutException):
        pass  # the status counts, not what follows it
    text = received[:LONGEST_ANSWER].decode(errors="replace")
    # A line of the log holds it, and PostgreSQL's text holds no NUL.
    return "".join(each if each.isprintable() else " " for each in text)


def _retry_after(response: httpcore2.Response) -> float | None:
    """Seconds, which the header `Retry-After` gives as a number or as a date."""
    headers = {name.lower(): value.decode("latin-1") for name, value in response.headers}
    value = headers.get(b"retry-after", "")
    if value.isascii() and value.isdecimal():
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, OverflowError):  # the second for a year that no integer of C holds
        return None
    return (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)).total_seconds()


class _Deadline:
    """A moment by which everything is done.

    A timeout alone counts anew with each byte, so a receiver that sends one every now and then
    could keep a worker for ever.
    """

    def __init__(self, seconds: float) -> None:
        self._moment = time.monotonic() + seconds

    def remaining(self) -> float:
        """Seconds that are left.

        Raises:
            httpcore2.TimeoutException: when there are none.
        """
        seconds = self._moment - time.monotonic()
        if seconds <= 0:
            raise httpcore2.TimeoutException
        return seconds


class _Network(httpcore2.NetworkBackend):
    """Looks names up itself, and connects to the addresses that were found and checked."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._sockets = httpcore2.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ARG002 (the deadline counts)
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.NetworkStream:
        """Connect to the first address that answers.

        Raises:
            TargetRefusedError: when an address is no public one.
        """
        addresses = resolve(host.strip("[]"), port)[:MOST_ADDRESSES]
        deadline = _Deadline(self._timeout)
        failure: Exception | None = None
        for address in addresses:
            seconds = min(CONNECT_SECONDS, deadline.remaining())
            try:
                stream = self._sockets.connect_tcp(
                    address, port, seconds, local_address, socket_options
                )
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failure = error
            else:
                return _Stream(stream, deadline)
        raise failure or httpcore2.ConnectError(f"{host} has no address")


class _Stream(httpcore2.NetworkStream):
    """A connection on which whatever is done ends by the deadline."""

    def __init__(self, stream: httpcore2.NetworkStream, deadline: _Deadline) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002
        """What has arrived."""
        return self._stream.read(max_bytes, self._deadline.remaining())

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002
        """Send all of it."""
        for start in range(0, len(buffer), _PIECE):
            self._stream.write(buffer[start : start + _PIECE], self._deadline.remaining())

    def close(self) -> None:
        """Close the connection."""
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ARG002
    ) -> httpcore2.NetworkStream:
        """The same connection, encrypted; the certificate has to be the host's."""
        remaining = self._deadline.remaining()
        return _Stream(
            self._stream.start_tls(ssl_context, server_hostname, remaining), self._deadline
        )

    def get_extra_info(self, info: str) -> Any:
        """What the connection knows of itself."""
        return self._stream.get_extra_info(info)
