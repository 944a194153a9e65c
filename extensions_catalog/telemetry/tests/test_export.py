"""What of a span is not sent, whoever recorded it."""

from typing import Any

import pytest
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.trace import Status, StatusCode

from app.extensions.telemetry.export import cleaned
from kit.settings import known_secrets


def attributes_of(**attributes: Any) -> dict[str, Any]:
    named = {name.replace("_", "."): value for name, value in attributes.items()}
    return dict(cleaned(ReadableSpan("x", attributes=named)).attributes or {})


@pytest.mark.parametrize(
    ("statement", "sent"),
    [
        ("SELECT a FROM b WHERE c = $1::VARCHAR AND d = $2", None),
        ("SELECT 'ada', 'o''clock' FROM b", "SELECT ?, ? FROM b"),
        (r"SELECT 'C:\', 'ada' FROM b", "SELECT ?, ? FROM b"),
        (r"SELECT E'it\'s ada', e'x' FROM b", "SELECT ?, ? FROM b"),
        ("SELECT $$ada$$, $tag$ada $$ ada$tag$, $1", "SELECT ?, ?, $1"),
        ("SELECT 'ada", "SELECT ?"),
        ('SELECT "Name"\nFROM b', None),
    ],
)
def test_literals_of_a_statement(statement: str, sent: str | None) -> None:
    sent = statement if sent is None else sent
    assert attributes_of(db_query_text=statement) == {"db.query.text": sent}
    assert attributes_of(db_statement=statement) == {"db.statement": sent}


def test_queries_of_urls() -> None:
    sent = attributes_of(url_full="https://a.example/b?key=ada", url_query="key=ada", url_path="/b")
    assert sent == {"url.full": "https://a.example/b", "url.path": "/b"}


def test_secrets_rows_and_stack_traces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kit.process.known_secrets", known_secrets | {"sesame-open"})
    event = Event("exception", {"exception.message": "no\nada", "exception.stacktrace": "ada"})
    span = cleaned(
        ReadableSpan(
            "GET sesame-open",
            attributes={"own": "sesame-open\nada", "number": 7, "list": ("sesame-open", "b")},
            events=[event],
            status=Status(StatusCode.ERROR, "sesame-open\nada"),
        )
    )
    assert span.name == "GET ***"
    assert span.attributes == {"own": "***", "number": 7, "list": ("***", "b")}
    assert span.events[0].attributes == {"exception.message": "no"}
    assert span.status.description == "***"
