"""Log lines: readable text on a developer's machine, one JSON object a line anywhere else.

Modules log with `logging.getLogger(__name__)`. Text for people goes into the message; values for
programs go into `extra={...}` as well, whose keys become keys of the JSON line. Every line carries
the request id, and the task id inside a task.
"""

import json
import logging
import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from urllib.parse import quote

from kit.context import get_request_id, get_task_id
from kit.settings import known_secrets, settings

SHORTEST_MASKED_SECRET = 6
"""Characters; masking a shorter secret would mask ordinary words."""

_OWN_KEYS = {
    *logging.makeLogRecord({}).__dict__,
    *("message", "asctime", "taskName", "prefix"),
    "color_message",  # uvicorn's
}
"""Attributes of every record, which are no keys of `extra`."""


def configure_logging() -> None:
    """Write the log of this process to standard error; a second call changes nothing.

    Standard error, so that a command's output (a token, for example) can be piped.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(ConsoleFormatter() if settings.is_local else JsonFormatter())
    root = logging.getLogger()
    for old in list(root.handlers):
        if isinstance(old.formatter, ConsoleFormatter | JsonFormatter):
            root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(settings.LOG_LEVEL)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
    # httpx logs every URL that it calls, with the query, which may hold a secret key.
    logging.getLogger("httpx").setLevel(max(logging.WARNING, root.level))
    # A line for each saved file is too much: uvicorn logs that it restarts.
    logging.getLogger("watchfiles").setLevel(logging.WARNING)
    # Seven lines about Alembic's own modules, each time that it is imported.
    logging.getLogger("alembic.runtime.plugins").setLevel(logging.WARNING)
    # `kit.http._middleware` writes the line instead, with request id and path template. Without
    # handlers uvicorn does not even format its own.
    logging.getLogger("uvicorn.access").propagate = False


class ConsoleFormatter(logging.Formatter):
    """Formats lines as `12:30:01 INFO    [5f2c91aa] kit.http._health: message`.

    An id of a trace that a record carries follows the request id.
    """

    def __init__(self) -> None:
        super().__init__(
            "%(asctime)s %(levelname)-7s %(prefix)s%(name)s: %(message)s", datefmt="%H:%M:%S"
        )

    def format(self, record: logging.LogRecord) -> str:
        """Format one record as a line, with its secrets masked."""
        ids = get_request_id()[:8], getattr(record, "trace_id", ""), getattr(record, "span_id", "")
        record.prefix = f"[{' '.join(filter(None, ids))}] " if any(ids) else ""
        return mask_secrets(super().format(record))


class JsonFormatter(logging.Formatter):
    """Formats one JSON object a line: timestamp (UTC), level, logger, message, ids, extra keys."""

    def __init__(self) -> None:
        super().__init__()
        self._encode = json.JSONEncoder(default=str, ensure_ascii=False).encode

    def format(self, record: logging.LogRecord) -> str:
        """Format one record as a line, with its secrets masked."""
        line: dict[str, Any] = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if request_id := get_request_id():
            line["request_id"] = request_id
        if task_id := get_task_id():
            line["task_id"] = task_id.strip("[] ")
        line |= {k: value for k, value in record.__dict__.items() if k not in _OWN_KEYS}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            line["stack"] = record.stack_info
        return mask_secrets(self._encode(line))


def mask_secrets(text: str) -> str:
    """Replace the settings' secrets, passwords inside URLs and bearer tokens with `***`.

    Those of every settings class that derives from `ServiceSettings`, as extensions' do.
    """
    signs, pattern = _pattern_of(frozenset(known_secrets))
    # Most lines hold none, and this check takes a tenth of the time.
    if not any(sign in text for sign in signs):
        return text
    return pattern.sub(lambda m: f"{m['url'] or m['scheme'] or ''}***", text)


@lru_cache(1)
def _pattern_of(secrets: frozenset[str]) -> tuple[tuple[str, ...], re.Pattern[str]]:
    # A secret with quotes or backslashes looks different inside of a JSON line, and in a URL.
    forms = {form for secret in secrets for form in _forms_of(secret)}
    long_enough = sorted((form for form in forms if len(form) >= SHORTEST_MASKED_SECRET), key=len)
    patterns = [
        r"(?P<url>://[^\s:/@\"]*:)[^\s/@\"]+(?=@)",
        r"(?P<scheme>\b[Bb]earer )[\w.~+/=-]+",
        *map(re.escape, reversed(long_enough)),
    ]
    return ("://", "earer ", *long_enough), re.compile("|".join(patterns))


def _forms_of(secret: str) -> list[str]:
    """The secret as it is, within a `repr`, in JSON and in a URL."""
    in_repr = secret.replace("\\", "\\\\")
    forms = [secret, in_repr, in_repr.replace("'", "\\'")]
    in_json = [
        json.dumps(form, ensure_ascii=each)[1:-1] for form in forms for each in (True, False)
    ]
    return [*forms, *in_json, quote(secret, safe="")]
