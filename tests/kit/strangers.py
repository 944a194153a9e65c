"""What strangers send, on plain sockets: clients of any library would refuse to."""

import json
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, suppress
from itertools import chain
from typing import NamedTuple
from urllib.parse import urlsplit

MEGABYTE = 1_000_000
ANSWER_SECONDS = 60
"""Much longer than an answer takes, for a busy machine."""


class Answer(NamedTuple):
    """Status and content type of an answer; 0 and nothing where there was none."""

    status: int
    content_type: str


class Stranger:
    """Sends requests to a service and reads the answers.

    Args:
        address: of the service.
    """

    def __init__(self, address: str) -> None:
        split = urlsplit(address)
        self._place = (str(split.hostname), int(split.port or 80))

    def connect(self) -> socket.socket:
        """Open a connection."""
        return socket.create_connection(self._place, timeout=ANSWER_SECONDS)

    def send(
        self, path: str, body: bytes | Iterable[bytes], *, method: str = "POST", **headers: str
    ) -> Answer:
        """Send a request, whatever the service answers meanwhile.

        Args:
            path: of the route.
            body: at once, or in pieces and then chunked.
            method: of the request.
            **headers: with `_` for `-`.
        """
        if isinstance(body, bytes):
            headers["content-length"], pieces = str(len(body)), iter([body])
        else:
            headers["transfer-encoding"], pieces = "chunked", _chunks(body)
        fields = "".join(
            f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items()
        )
        head = f"{method} {path} HTTP/1.1\r\nhost: service\r\n{fields}\r\n"
        return self.talk(chain([head.encode()], pieces))

    def talk(self, pieces: Iterable[bytes]) -> Answer:
        """Send pieces, and read the answer."""
        answer = b""
        with closing(self.connect()) as connection:
            with suppress(ConnectionError):  # the service may have answered all the same
                for piece in pieces:
                    connection.sendall(piece)
            with suppress(ConnectionError):
                while b"\r\n\r\n" not in answer and (part := connection.recv(65_536)):
                    answer += part
        return _parse(answer)


def _chunks(pieces: Iterable[bytes]) -> Iterator[bytes]:
    for piece in pieces:
        yield b"%x\r\n%b\r\n" % (len(piece), piece)
    yield b"0\r\n\r\n"


def _parse(answer: bytes) -> Answer:
    if not answer:
        return Answer(0, "")
    first, *lines = answer.partition(b"\r\n\r\n")[0].decode("latin-1").lower().splitlines()
    fields = dict(line.partition(": ")[::2] for line in lines)
    return Answer(int(first.split()[1]), fields.get("content-type", ""))


def seconds_until_closed(stranger: Stranger, beginnings: Iterable[bytes]) -> float:
    """Begin a request on a connection each; seconds until the service has closed all of them."""
    began = time.monotonic()
    with ExitStack() as stack:
        connections = []
        for beginning in beginnings:
            connections.append(stack.enter_context(closing(stranger.connect())))
            connections[-1].sendall(beginning)
        for connection in connections:
            with suppress(ConnectionError):
                while connection.recv(65_536):
                    pass
    return time.monotonic() - began


CUT_OFF_JSON = json.dumps({"message": "x" * 950_000}).encode()[:-2]
CUT_OFF_FORM = b"username=" + b"x" * 950_000 + b"&password=%"
DEEP_JSON = b"[" * 950_000
WIDE_JSON = b"[" + b"[]," * 300_000 + b"[]]"
WIDEST_JSON = b"[" + b"[]," * 65_536 + b"[]]"
ZEROS = b"[" + b"0," * 450_000 + b"0]"
