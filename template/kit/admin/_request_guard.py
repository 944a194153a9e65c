"""Protects the admin against requests from other sites, and refuses addresses that hold a NUL.

The session cookie is `SameSite=Strict`, so a browser sends it with no request that another site
starts. That rule counts sibling subdomains as the same site and does not protect the log-in form,
which needs no cookie; so every request that changes data has to come from our own pages, too.
Browsers state that in `Sec-Fetch-Site`, which a page cannot forge, or at least in `Origin`. Forms
need no token for it, so it covers every view. Source for the rule:
https://words.filippo.io/csrf/
"""

import re
from http import HTTPStatus
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kit.admin._audit import AdminRequest, current_admin_request
from kit.context import client_address
from kit.errors import Problem, problem_response

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

# SQLAdmin calls these with GET, although they change data.
_CHANGING_PATH = re.compile(r"/logout/?$|/(?P<identity>[^/]+)/action/(?P<action>[^/]+)/?$")


LOG_IN_BODY_LIMIT = 16_384
"""Bytes of the log-in form, which anybody may send."""


class AdminRequestGuard:
    """ASGI middleware: answers 403 to a request from another site that would change data.

    A NUL, which no text of PostgreSQL can hold, is answered with 400 wherever it is in the address.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._log_in = RequestBodyLimitMiddleware(app, LOG_IN_BODY_LIMIT)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if _changes_something(scope) and not is_from_our_pages(Headers(scope=scope)):
            refusal = PlainTextResponse(
                "Refused: the request comes from another site.", HTTPStatus.FORBIDDEN
            )
            await refusal(scope, receive, send)
            return
        if "\0" in scope["path"] or b"%00" in scope["query_string"]:
            problem = Problem(HTTPStatus.BAD_REQUEST, "The address holds a NUL character.")
            await problem_response(HTTPConnection(scope), problem)(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start" and "/statics/" not in scope["path"]:
                MutableHeaders(scope=message).setdefault("Cache-Control", "no-store")
            await send(message)

        token = current_admin_request.set(AdminRequest(client=client_address(scope)))
        app = self._log_in if scope["path"].endswith("/login") else self.app
        try:
            await app(scope, receive, send_with_headers)
        finally:
            current_admin_request.reset(token)


def requested_action(path: str) -> tuple[str, str] | None:
    """Identity of the view and name of the action, if the path is that of an action."""
    match = _CHANGING_PATH.search(path)
    return (match["identity"], match["action"]) if match and match["action"] else None


def is_from_our_pages(headers: Headers) -> bool:
    """Whether a browser's request comes from a page of this service; programs pass."""
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site in ("same-origin", "none")  # none: typed, or from a bookmark
    origin = headers.get("origin")
    # With neither header it is no browser, or an old one for which SameSite has to be enough.
    return origin is None or urlsplit(origin).netloc == headers.get("host")


def _changes_something(scope: Scope) -> bool:
    return scope["method"] not in SAFE_METHODS or bool(_CHANGING_PATH.search(scope["path"]))
