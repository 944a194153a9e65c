"""Log lines: one JSON object each outside local, with ids and without secrets."""

import json
import logging
from collections.abc import Iterator

import pytest

from app.core.config import settings
from kit import process
from kit.context import bind_request_id, bind_task_id, unbind_request_id, unbind_task_id
from kit.process import ConsoleFormatter, JsonFormatter, configure_logging
from kit.settings._base import local_secret_key

HOSTILE_SECRET = 'pa"ss\\wörd-in-settings'


@pytest.fixture
def request_id() -> Iterator[str]:
    token = bind_request_id("0123456789abcdef")
    yield "0123456789abcdef"
    unbind_request_id(token)


@pytest.fixture
def secret_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "known_secrets", {HOSTILE_SECRET, "a"})


def record(message: str, *args: object, **extra: object) -> logging.LogRecord:
    made = logging.getLogger("app.test").makeRecord(
        "app.test", logging.WARNING, __file__, 1, message, args, None, extra=extra
    )
    assert isinstance(made, logging.LogRecord)
    return made


@pytest.mark.parametrize("formatter", [ConsoleFormatter, JsonFormatter])
class TestSecrets:
    @pytest.mark.parametrize(
        ("message", "secret"),
        [
            ("cannot reach postgresql+asyncpg://ada:hunter%402@db:5432/x", "hunter%402"),
            ("rediss://default:hunter2@redis.example:1", "hunter2"),
            ("rediss://:hunter2@redis.example:1", "hunter2"),
            ("sent Authorization: Bearer abc.DEF-123", "abc.DEF-123"),
            (f"tried {HOSTILE_SECRET}", "wörd-in-settings"),
        ],
    )
    def test_are_masked(
        self,
        secret_settings: None,
        formatter: type[logging.Formatter],
        message: str,
        secret: str,
    ) -> None:
        line = formatter().format(record("%s", message))
        assert secret not in line
        assert "***" in line

    def test_the_generated_key_is_one(self, formatter: type[logging.Formatter]) -> None:
        line = formatter().format(record("signed with %s", local_secret_key()))
        assert line.count("***") == 1
        assert local_secret_key() not in line

    def test_are_masked_in_stack_traces(
        self, secret_settings: None, formatter: type[logging.Formatter]
    ) -> None:
        error = ValueError(f"login with {HOSTILE_SECRET} at redis://u:hunter2@h")
        made = record("failed")
        made.exc_info = (ValueError, error, None)
        line = formatter().format(made)
        assert "ValueError" in line
        assert "hunter2" not in line
        assert "wörd" not in line

    def test_ordinary_words_stay(
        self, secret_settings: None, formatter: type[logging.Formatter]
    ) -> None:
        line = formatter().format(record("see https://example.com/a@b and the letter a"))
        assert "see https://example.com/a@b and the letter a" in line


class TestJson:
    def test_is_one_line_with_everything(self, request_id: str) -> None:
        bind_task_id("b83caca6-1111-2222-3333-444455556666")
        line = JsonFormatter().format(record("two\nlines of %s", "text", amount=3))
        unbind_task_id()
        assert "\n" not in line
        entry = json.loads(line)
        assert entry.pop("timestamp").endswith("+00:00")
        assert entry == {
            "level": "WARNING",
            "logger": "app.test",
            "message": "two\nlines of text",
            "request_id": request_id,
            "task_id": "b83caca6",
            "amount": 3,
        }

    def test_leaves_out_what_there_is_not(self) -> None:
        entry = json.loads(JsonFormatter().format(record("x")))
        assert entry.keys() == {"timestamp", "level", "logger", "message"}

    def test_writes_what_json_cannot_as_text(self) -> None:
        entry = json.loads(JsonFormatter().format(record("x", where={"a": object})))
        assert "object" in entry["where"]["a"]


class TestConsole:
    def test_shows_the_beginning_of_the_request_id(self, request_id: str) -> None:
        assert "WARNING [01234567] app.test: x" in ConsoleFormatter().format(record("x"))

    def test_shows_the_ids_of_a_trace_that_a_record_carries(self, request_id: str) -> None:
        traced = record("x", trace_id="7d1e", span_id="5a")
        assert "WARNING [01234567 7d1e 5a] app.test: x" in ConsoleFormatter().format(traced)


class TestConfigureLogging:
    @pytest.fixture(autouse=True)
    def restored_loggers(self) -> Iterator[None]:
        root = logging.getLogger()
        handlers, level = list(root.handlers), root.level
        yield
        root.handlers[:] = handlers
        root.setLevel(level)

    def own_handlers(self) -> list[logging.Handler]:
        formatters = (ConsoleFormatter, JsonFormatter)
        return [h for h in logging.getLogger().handlers if isinstance(h.formatter, formatters)]

    def test_twice_is_once(self) -> None:
        configure_logging()
        configure_logging()
        assert len(self.own_handlers()) == 1

    @pytest.mark.parametrize(
        ("environment", "formatter"), [("local", ConsoleFormatter), ("production", JsonFormatter)]
    )
    def test_form_follows_the_environment(
        self, monkeypatch: pytest.MonkeyPatch, environment: str, formatter: type
    ) -> None:
        changed = settings.model_copy(update={"ENVIRONMENT": environment})
        monkeypatch.setattr(process, "settings", changed)
        configure_logging()
        assert isinstance(self.own_handlers()[0].formatter, formatter)

    def test_urls_that_are_called_are_not_logged(self) -> None:
        configure_logging()
        assert not logging.getLogger("httpx").isEnabledFor(logging.INFO)

    def test_uvicorn_writes_through_it_and_keeps_no_access_log(self) -> None:
        logging.getLogger("uvicorn.error").addHandler(logging.NullHandler())
        configure_logging()
        assert logging.getLogger("uvicorn.error").handlers == []
        assert logging.getLogger("uvicorn.error").propagate
        assert not logging.getLogger("uvicorn.access").hasHandlers()
