"""A receiver of webhooks: a real HTTP server that checks signatures, and fails when it is told."""

import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

Answer = Callable[[BaseHTTPRequestHandler], None]


@dataclass(frozen=True)
class Received:
    """A request, and what the reference implementation made of its signature."""

    path: str
    headers: dict[str, str]
    body: bytes
    document: Any
    """The body's JSON; nothing when its signature was wrong."""


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """Say nothing: senders hang up, and refuse certificates, because the tests want it."""


class Receiver:
    """Answers with `answers`, one each, and with 200 after the last of them."""

    def __init__(self, secret: str, tls: ssl.SSLContext | None = None) -> None:
        self.secret = secret
        self.answers: list[Answer] = []
        self.received: list[Received] = []
        self.closing = threading.Event()
        self._lock = threading.Lock()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                receiver._take(self)

            def log_message(self, *_: object) -> None:
                pass

        self.server = _Server(("127.0.0.1", 0), Handler)
        if tls:
            # A handshake that fails then ends its connection's thread, not the server.
            self.server.socket = tls.wrap_socket(
                self.server.socket, server_side=True, do_handshake_on_connect=False
            )
        self._thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))

    def __enter__(self) -> "Receiver":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self.server.shutdown()
        self.server.server_close()
        self._thread.join()

    @property
    def port(self) -> int:
        """Where it listens, on 127.0.0.1."""
        return self.server.server_port

    @property
    def url(self) -> str:
        """What a subscription names."""
        return f"http://127.0.0.1:{self.port}/hook?from=service"

    @property
    def documents(self) -> list[Any]:
        """What was received, as its signature vouches for it."""
        return [each.document for each in self.received]

    def _take(self, request: BaseHTTPRequestHandler) -> None:
        headers = {name.lower(): value for name, value in request.headers.items()}
        body = request.rfile.read(int(headers["content-length"]))
        try:
            document = Webhook(self.secret).verify(body, headers)
        except WebhookVerificationError:
            document = None
        with self._lock:
            self.received.append(Received(request.path, headers, body, document))
            answer = self.answers.pop(0) if self.answers else status(200)
        with suppress(ConnectionError):  # the sender has had enough
            answer(request)
        request.close_connection = True


def status(code: int, body: bytes = b"", **headers: str) -> Answer:
    """An ordinary answer; `_` in a header's name stands for `-`."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(code)
        for name, value in headers.items():
            request.send_header(name.replace("_", "-"), value)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    return answer


def silence(receiver: Receiver) -> Answer:
    """No answer, on a connection that stays open."""
    return lambda _: receiver.closing.wait()  # type: ignore[return-value]


def drip(receiver: Receiver, beginning: bytes) -> Answer:
    """A byte every now and then, without an end."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.wfile.write(beginning)
        while not receiver.closing.wait(0.05):
            request.wfile.write(b"x")

    return answer


def flood(receiver: Receiver, code: int) -> Answer:
    """A body without an end, as fast as it is taken."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(code)
        request.end_headers()
        while not receiver.closing.is_set():
            request.wfile.write(b"x" * 65536)

    return answer


def nonsense(request: BaseHTTPRequestHandler) -> None:
    """Something, but no HTTP."""
    request.wfile.write(b"hello\r\n\r\n")


def hang_up(request: BaseHTTPRequestHandler) -> None:
    """Nothing, and the connection is closed."""
