"""Checks of the code: that it imports, and what the application answers."""

import asyncio
import logging
from collections.abc import Iterator
from http import HTTPStatus

from fastapi import FastAPI
from starlette.types import Message

from kit.admin import ADMIN_PATH
from kit.doctor._checks import Finding, check, problem, warning
from kit.migrations import explain_forks, script_directory
from kit.settings import settings

_FROM_ELSEWHERE = ((b"origin", b"https://elsewhere.example"), (b"sec-fetch-site", b"cross-site"))


@check("code", "the service and its extensions import", "code")
def _code() -> Iterator[Finding]:
    yield from ()  # this is asked once they have


@check("migration-forks", "each branch of migrations has one head", "code")
def _migration_forks() -> Iterator[Finding]:
    for what, _, remedy in (fork.partition(". ") for fork in explain_forks(script_directory())):
        yield problem(f"{what}.", remedy)


@check("debug", "errors are answered without stack traces", "application", production=True)
def _debug(application: FastAPI) -> Iterator[Finding]:
    if application.debug:
        yield problem(
            "FastAPI's debug is on: errors are answered with stack traces",
            "Remove debug=True in app/main.py.",
        )


@check("security-headers", "an answer has the security headers", "application", production=True)
def _security_headers(application: FastAPI) -> Iterator[Finding]:
    _, headers = _ask(application, "GET", "/health/live")
    for name, value in settings.security_headers.items():
        if (found := headers.get(name.lower())) != value:
            yield (warning if found else problem)(
                f"an answer has {name} {found or 'not at all'}, expected {value}",
                "In app/main.py, keep `middleware=middleware_stack()`, and no middleware that sets "
                "it.",
            )


@check(
    "cross-site", "the admin refuses a form that another site sends", "application", production=True
)
def _cross_site(application: FastAPI) -> Iterator[Finding]:
    status, _ = _ask(application, "POST", f"{ADMIN_PATH}/login", *_FROM_ELSEWHERE)
    if status != HTTPStatus.FORBIDDEN:
        yield problem(
            f"the admin answers {status} to a form that another site sends, not 403",
            "In app/main.py, keep `setup_admin(app)`, and nothing of yours at /admin.",
        )


def _ask(
    application: FastAPI, method: str, path: str, *headers: tuple[bytes, bytes]
) -> tuple[int, dict[str, str]]:
    """Status and headers of an answer, without a server and without the steps of a start."""
    started: Message = {}
    host = next(iter(settings.ALLOWED_HOSTS), "localhost")  # a pattern allows itself
    request = {"type": "http", "http_version": "1.1", "scheme": "https", "method": method}
    address = {"path": path, "raw_path": path.encode(), "query_string": b"", "root_path": ""}
    peers = {"client": ("127.0.0.1", 0), "server": ("127.0.0.1", 443), "asgi": {"version": "3.0"}}
    scope = {**request, **address, **peers, "headers": [(b"host", host.encode()), *headers]}

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            started.update(message)

    logging.disable(logging.INFO)  # the line of the access log
    try:
        asyncio.run(application(scope, receive, send))
    finally:
        logging.disable(logging.NOTSET)
    sent = {name.decode().lower(): value.decode("latin-1") for name, value in started["headers"]}
    return started["status"], sent
