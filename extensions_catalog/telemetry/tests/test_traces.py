"""One trace from a request to the last query of the last task, in what a collector receives."""

import re
import secrets
from typing import Any

import pytest

from app.extensions.telemetry.tests.conftest import RunningApi, StartApi, StartWorker
from app.extensions.telemetry.tests.receiver import ReceivedSpan, Receiver
from app.extensions.telemetry.tests.traced_tasks import BROKEN, FIRST, SECOND

pytestmark = pytest.mark.slow

POOLS = {
    "solo": (),
    "threads": ("--pool", "threads", "--concurrency", "2"),
    "prefork": ("--pool", "processes", "--concurrency", "1"),
}
ROUTE = "POST /traced/{number}"
MARK = "MARKED"


@pytest.fixture(scope="module")
def api(start_api: StartApi) -> RunningApi:
    return start_api(
        OTEL_EXPORTER_OTLP_HEADERS=f"x-key={MARK}-key", SECRET_KEY=f"{MARK}-{'x' * 32}"
    )


def traceparent(trace_id: str, *, sampled: bool = True) -> dict[str, str]:
    return {"traceparent": f"00-{trace_id}-{secrets.token_hex(8)}-0{int(sampled)}"}


@pytest.mark.parametrize("pool", POOLS)
def test_one_leads_from_a_request_to_a_task_of_a_task(
    receiver: Receiver, api: RunningApi, start_worker: StartWorker, pool: str
) -> None:
    worker = start_worker(*POOLS[pool])
    trace_id = secrets.token_hex(16)
    headers = traceparent(trace_id)
    query = {"value": "x", "call": receiver.url}
    api.client.post("/traced/5", params=query, headers=headers).raise_for_status()
    api.client.post("/broken-task", params={"value": "x"}, headers=headers)
    receiver.wait_for_span(ROUTE, trace_id)
    worker.wait_for("the second task runs")
    worker.wait_for("raised unexpected")
    worker.stop()  # it sends what is left
    receiver.wait_for_span(f"run {SECOND}", trace_id)

    spans = [span for span in receiver.spans if span.trace_id == trace_id]
    by_id = {span.span_id: span for span in spans}

    def chain(span: ReceivedSpan) -> list[str]:
        above = by_id.get(span.parent_id)
        name = "query" if span.attributes.get("db.system.name") == "postgresql" else span.name
        return [*(chain(above) if above else [span.parent_id]), name]

    request = [headers["traceparent"].split("-")[2], ROUTE]
    first = [*request, f"send {FIRST}", f"run {FIRST}"]
    second = [*first, f"send {SECOND}", f"run {SECOND}"]
    chains = [chain(span) for span in spans]
    assert chains.count([*request, "query"]) >= 3
    assert [*request, "GET"] in chains
    assert [*first, "query"] in chains
    assert [*second, "query"] in chains
    # Neither FastAPI nor anything else records the request once more.
    assert [span.name for span in spans].count(ROUTE) == 1
    assert not [span.name for span in spans if span.name.startswith("fastapi.")]

    roles = {span.name: span.process.partition("@")[0] for span in spans}
    assert roles[ROUTE] == roles[f"send {FIRST}"] == "api"
    assert roles[f"run {FIRST}"] == roles[f"run {SECOND}"]
    assert roles[f"run {FIRST}"] == ("worker-child" if pool == "prefork" else "worker")

    # Its ids are in each line that was logged meanwhile.
    for lines, texts in (
        (api.lines, ("handler before commit", "handler after commit", ROUTE)),
        (worker.lines, ("the first task runs", "the second task runs", "succeeded in")),
    ):
        for text in texts:
            of_trace = [line for line in lines if text in line and trace_id in line]
            assert of_trace, text
            found = re.search(rf"{trace_id} ([0-9a-f]{{16}})\]", of_trace[0])
            assert found
            assert found[1] in by_id

    # So is the task's error, reported once.
    errors = [event for event in receiver.events if event["tags"].get("task") == BROKEN]
    assert [event["contexts"]["trace"]["trace_id"] for event in errors].count(trace_id) == 1

    # What a worker asks Redis at rest begins no trace, and neither do health checks.
    begun = {span.name for span in receiver.spans if not span.parent_id}
    assert not [name for name in begun if not name.startswith(("GET", "POST", "send ", "run "))]
    assert not [span.text for span in receiver.spans if "/health/" in span.text]


def test_hold_no_secret_and_no_value(
    receiver: Receiver, api: RunningApi, start_worker: StartWorker
) -> None:
    value, trace_id = f"{MARK}-value", secrets.token_hex(16)
    headers = {"Authorization": f"Bearer {MARK}-token", "Cookie": f"a={MARK}-cookie"}
    headers |= {"baggage": f"a={MARK}-baggage", "X-Request-ID": "request-of-the-test"}
    headers |= traceparent(trace_id)
    worker = start_worker(SECRET_KEY=f"{MARK}-{'x' * 32}")
    query = {"value": value, "call": f"http://ada:{MARK}-pass@127.0.0.1:{receiver.port}"}
    api.client.post("/traced/6", params=query, headers=headers).raise_for_status()
    for path in ("/failing", "/crashing", "/broken-task"):
        api.client.post(path, params={"value": value}, headers=headers)
    for name in (ROUTE, f"run {SECOND}", f"run {BROKEN}", "POST /failing", "POST /crashing"):
        receiver.wait_for_span(name, trace_id)
    worker.stop()
    errors = receiver.wait_for(lambda: errors_in(receiver, trace_id, 2))

    everything = b"\n".join(body for _, _, body in receiver.requests)
    for expected in (b"nothing there, with ***", b"SELECT ? AS", b"error.type", b"127.0.0.1"):
        assert expected in everything
    for secret in (MARK.encode(), b"LITERAL"):
        at = everything.find(secret)
        assert at < 0, everything[max(0, at - 200) : at + 100]
    for event in errors:
        assert (event["environment"], event["release"]) == ("local", "shop@1.2.3")
        exception = event["exception"]["values"][0]
        assert exception["type"] == "LookupError"
        assert exception["value"].startswith("nothing there")
        assert exception["stacktrace"]["frames"]
        assert event["tags"]["request_id"] == "request-of-the-test"
        assert "user" not in event
    # Traces are OpenTelemetry's: Sentry gets errors alone.
    assert b'"transaction"' not in everything
    called = [headers for path, headers, _ in receiver.requests if path.startswith("/called")]
    assert [headers["traceparent"] for headers in called if trace_id in headers["traceparent"]]
    assert not [headers for headers in called if "baggage" in headers]
    # The collector's own header is sent where it belongs.
    assert f"{MARK}-key" in {headers.get("x-key") for _, headers, _ in receiver.requests}


def errors_in(receiver: Receiver, trace_id: str, count: int) -> list[dict[str, Any]]:
    """The errors of a trace, once so many are there."""
    errors = [e for e in receiver.events if e["contexts"]["trace"]["trace_id"] == trace_id]
    return errors if len(errors) >= count else []


def test_metrics_have_few_values(receiver: Receiver, api: RunningApi) -> None:
    api.client.get("/nowhere/at/all")
    points = receiver.wait_for(lambda: receiver.metrics.get("http.server.request.duration"))
    assert {"http.route", "http.request.method", "http.response.status_code", "url.scheme"} >= set(
        points[0]
    )
    assert "/nowhere/at/all" not in str(receiver.metrics)
    tasks = receiver.wait_for(lambda: receiver.metrics.get("messaging.process.duration"))
    assert {point["celery.task"] for point in tasks} >= {FIRST, SECOND}


def test_of_the_others_only_the_ids_are_logged(receiver: Receiver, start_api: StartApi) -> None:
    unsampled = start_api(TELEMETRY_SAMPLE_RATIO="0", OTEL_METRICS_EXPORTER="none")
    before = len(receiver.spans)
    unsampled.client.post("/traced/7", params={"value": "x"}).raise_for_status()
    # It is logged once the answer is on its way.
    lines = receiver.wait_for(lambda: [line for line in unsampled.lines if ROUTE in line])
    assert re.search(r"[0-9a-f]{32} [0-9a-f]{16}\]", lines[0])
    headers = traceparent("a" * 32)
    unsampled.client.post("/traced/7", params={"value": "x"}, headers=headers)
    receiver.wait_for_span(ROUTE, "a" * 32)  # its caller has decided
    assert {span.trace_id for span in receiver.spans[before:]} == {"a" * 32}
