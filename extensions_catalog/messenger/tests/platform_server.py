"""The platform's Send API: a real HTTP server that fails when it is told to."""

import json
import threading
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

Answer = Callable[[BaseHTTPRequestHandler], None]


class PlatformServer:
    """Answers with `answers`, one each, and takes every message after the last of them."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.paths: list[str] = []
        self.forms: list[dict[str, str]] = []
        self.closing = threading.Event()
        self._lock = threading.Lock()
        platform = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                platform._take(self)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def __enter__(self) -> "PlatformServer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        """What MESSENGER_GRAPH_URL names."""
        return f"http://127.0.0.1:{self._server.server_port}/v25.0"

    @property
    def texts(self) -> list[str]:
        """Texts of the messages, in the order in which they came."""
        return [json.loads(form["message"])["text"] for form in self.forms]

    def _take(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers["Content-Length"])).decode()
        form = {name: values[0] for name, values in parse_qs(body, strict_parsing=True).items()}
        with self._lock:
            self.paths.append(request.path)
            self.forms.append(form)
            taken = answer(
                200,
                {
                    "recipient_id": json.loads(form["recipient"])["id"],
                    "message_id": f"m_{len(self.forms)}",
                },
            )
            next_answer = self.answers.pop(0) if self.answers else taken
        with suppress(ConnectionError):  # the sender has had enough
            next_answer(request)


def answer(code: int, document: Any) -> Answer:
    """An answer with a JSON document, or with the bytes that are given."""
    body = document if isinstance(document, bytes) else json.dumps(document).encode()

    def send(request: BaseHTTPRequestHandler) -> None:
        request.send_response(code)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    return send


def error(status: int, code: int, message: str, **members: Any) -> Answer:
    """An error as the Graph API tells it."""
    told = {"message": message, "type": "OAuthException", "code": code, "fbtrace_id": "BLBz"}
    return answer(status, {"error": told | members})


def silence(platform: PlatformServer) -> Answer:
    """No answer, on a connection that stays open."""
    return lambda _: platform.closing.wait()  # type: ignore[return-value]


def drip(platform: PlatformServer) -> Answer:
    """A byte every now and then, without an end."""

    def send(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.end_headers()
        while not platform.closing.wait(0.05):
            request.wfile.write(b" ")

    return send


def hang_up(_: BaseHTTPRequestHandler) -> None:
    """Nothing, and the connection is closed."""
