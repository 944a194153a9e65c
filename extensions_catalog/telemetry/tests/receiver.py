"""A server that takes what the extension sends: a collector's OTLP, and Sentry's envelopes."""

import gzip
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

SECONDS = 30
"""Longest wait for what is to come, on a busy machine."""


@dataclass(frozen=True)
class ReceivedSpan:
    """A span as it arrived."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    attributes: dict[str, Any]
    process: str
    """As `worker@host:4711`."""
    text: str
    """All of it."""


class Receiver:
    """Listens on loopback from its start to its end."""

    def __init__(self, port: int = 0) -> None:
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.holds = threading.Event()
        """Not set, it takes requests and answers none."""
        self.holds.set()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                content = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    content = gzip.decompress(content)
                receiver.requests.append((self.path, dict(self.headers), content))
                receiver.holds.wait(SECONDS)
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def do_GET(self) -> None:
                receiver.requests.append((self.path, dict(self.headers), b""))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> "Receiver":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.holds.set()
        self._server.shutdown()
        self._server.server_close()

    @property
    def spans(self) -> list[ReceivedSpan]:
        """All spans so far."""
        return [
            span
            for path, _, body in [*self.requests]
            if path == "/v1/traces"
            for span in spans_in(body)
        ]

    @property
    def metrics(self) -> dict[str, list[dict[str, Any]]]:
        """Attributes of the points of each metric so far."""
        found: dict[str, list[dict[str, Any]]] = {}
        for path, _, body in [*self.requests]:
            if path == "/v1/metrics":
                for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                    for scope in resource.scope_metrics:
                        for metric in scope.metrics:
                            points = getattr(metric, metric.WhichOneof("data")).data_points
                            found.setdefault(metric.name, []).extend(
                                values(point.attributes) for point in points
                            )
        return found

    @property
    def events(self) -> list[dict[str, Any]]:
        """The errors that have been reported."""
        lines = [
            line
            for path, _, body in [*self.requests]
            if path.endswith("/envelope/")
            for line in body.splitlines()
        ]
        documents = [json.loads(line) for line in lines if line.startswith(b"{")]
        return [
            document for document in documents if "exception" in document or "logentry" in document
        ]

    def wait_for(self, what: Callable[[], Any]) -> Any:
        """Wait until this is something, and return it."""
        deadline = time.monotonic() + SECONDS
        while not (found := what()):
            assert time.monotonic() < deadline, [span.name for span in self.spans]
            time.sleep(0.05)
        return found

    def wait_for_requests(self, count: int) -> None:
        """Wait until so many requests have come."""
        self.wait_for(lambda: len(self.requests) >= count)

    def wait_for_span(self, name: str, trace_id: str = "") -> ReceivedSpan:
        """Wait for a span of this name, in this trace."""
        found: ReceivedSpan = self.wait_for(
            lambda: next(
                (s for s in self.spans if s.name == name and trace_id in (s.trace_id, "")), None
            )
        )
        return found


def spans_in(body: bytes) -> Iterator[ReceivedSpan]:
    """The spans of one request."""
    for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
        process = values(resource.resource.attributes)["service.instance.id"]
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield ReceivedSpan(
                    span.name,
                    span.trace_id.hex(),
                    span.span_id.hex(),
                    span.parent_span_id.hex(),
                    values(span.attributes),
                    process,
                    str(span),
                )


def values(attributes: Any) -> dict[str, Any]:
    """Attributes as a dictionary."""
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}
