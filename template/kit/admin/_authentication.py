"""Who may use the admin: log-in, sessions and log-out of administrators, and guards against others.

The session is a signed cookie that names the account and its session version. Raising the version
(a new password, log-out, deactivation) ends every session of the account at its next request. A
page of the service's own may ask for the same log-in.

Failed log-ins are limited across all processes: they are counted in the audit. An attempt is
recorded as failed before the password is checked, under a lock; the right password turns the entry
into a log-in. So concurrent attempts count each other, and no connection or lock is held while a
password is verified, which is slow by intent.

Two limits apply to an unknown browser. One is its network address's. The other is the username's,
ten times as high, against guesses from many addresses. Behind a proxy that is not named the address
is the one that the proxy reports. Over the internet anybody can write that header: there the peer's
own address counts, with the higher limit, since many may share it. An attacker who wants to lock an
administrator out can only exhaust these: a browser in which the administrator has logged in before
has a device cookie and a count of its own. A new password (`make admin-password`) resets the count.
Source for device cookies:
https://owasp.org/www-community/Slow_Down_Online_Guessing_Attacks_with_Device_Cookies

The guard refuses requests from other sites, and addresses that hold a NUL. The session cookie is
`SameSite=Strict`, so a browser sends it with no request that another site starts. That rule counts
sibling subdomains as the same site and does not protect the log-in form, which needs no cookie; so
every request that changes data has to come from our own pages, too. Browsers state that in
`Sec-Fetch-Site`, which a page cannot forge, or at least in `Origin`. Forms need no token for it, so
it covers every view. Source for the rule:
https://words.filippo.io/csrf/
"""

import hashlib
import hmac
import math
import re
import secrets
import time
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from typing import Annotated, Any, cast
from urllib.parse import urlsplit

import anyio.to_thread
from anyio import CapacityLimiter
from fastapi import Depends
from itsdangerous import BadSignature, URLSafeTimedSerializer
from sqladmin.authentication import AuthenticationBackend
from sqladmin.authorization import Action, AuthorizationBackend
from sqladmin.templating import Jinja2Templates
from sqlalchemy import ColumnElement, Interval, extract, func, literal
from sqlalchemy.orm import sessionmaker
from sqlmodel import Session, col, select, update
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kit.admin._audit import AdminRequest, AuditedSession, audit_entry, current_admin_request
from kit.context import client_address, client_network, is_public, reported_client, root_path
from kit.errors import Problem, problem_response
from kit.models import AdminRole, AdminUser, AuditAction, AuditEntry
from kit.security import GUARDS, Kind, Principal, Serves, normalise_username, verify_password
from kit.settings import settings

USERNAME_FACTOR = 10
"""How many times more failures one username may have than one address."""

_LOCK = int.from_bytes(hashlib.sha256(b"admin log-in").digest()[:8], signed=True)


class TooManyAttemptsError(Exception):
    """The attempt is refused before its password is checked.

    Attributes:
        retry_after: seconds to wait.
    """

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"too many failed log-ins, the next one in {retry_after} s")
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class LoginAttempt:
    """An attempt to log in: the account, and the client.

    Attributes:
        username: as typed, normalised.
        user: the account of that name, if there is one.
        client: as `client_network` returns it.
        device: id of a browser in which this user has logged in before, otherwise empty.
        is_shared: whether the client is a proxy, whose callers cannot be told apart.
    """

    username: str
    user: AdminUser | None
    client: str
    device: str
    is_shared: bool = False


def reserve_attempt(session: Session, attempt: LoginAttempt) -> int | None:
    """Record the attempt as failed, commit, and return the entry's key.

    Raises:
        TooManyAttemptsError: when a limit is reached; nothing is written then.
    """
    # Once without the lock: a refusal has to be cheap, and must not wait in the queue.
    _refuse_at_limit(session, attempt)
    session.execute(select(func.pg_advisory_xact_lock(_LOCK)))
    _refuse_at_limit(session, attempt)
    entry = AuditEntry(
        action=AuditAction.LOGIN_FAILED,
        # An unknown name is not recorded: it may be a password in the wrong field.
        actor=attempt.user.username if attempt.user else "",
        client=attempt.client,
        subject_type=AdminUser.__tablename__,
        subject_id=_subject(attempt),
        details={"device": attempt.device} if attempt.device else {},
    )
    session.add(entry)
    session.flush()
    entry_id = entry.id
    session.commit()
    return entry_id


def _refuse_at_limit(session: Session, attempt: LoginAttempt) -> None:
    device = col(AuditEntry.details)["device"].astext
    if attempt.device and not _seconds_to_wait(
        session, device == attempt.device, limit=settings.ADMIN_LOGIN_ATTEMPTS
    ):
        return
    counted = [device.is_(None)]
    if attempt.user and attempt.user.password_changed_at:
        counted.append(col(AuditEntry.occurred_at) > attempt.user.password_changed_at)
    of_client = col(AuditEntry.client) == attempt.client
    of_username = col(AuditEntry.subject_id) == _subject(attempt)
    attempts = settings.ADMIN_LOGIN_ATTEMPTS
    of_many = attempts * USERNAME_FACTOR
    of_one = of_many if attempt.is_shared else attempts
    if wait := max(
        _seconds_to_wait(session, of_client, *counted, limit=of_one),
        _seconds_to_wait(session, of_username, *counted, limit=of_many),
    ):
        raise TooManyAttemptsError(wait)


def _seconds_to_wait(session: Session, *which: ColumnElement[bool], limit: int) -> int:
    """Seconds until the oldest of the last `limit` failures expires; 0 when there are fewer."""
    window = literal(timedelta(seconds=settings.ADMIN_LOGIN_WINDOW), Interval)
    occurred_at = col(AuditEntry.occurred_at)
    remaining = session.scalar(
        select(extract("epoch", occurred_at + window - func.now()))
        .where(
            AuditEntry.action == AuditAction.LOGIN_FAILED,
            occurred_at > func.now() - window,
            *which,
        )
        .order_by(occurred_at.desc())
        .offset(limit - 1)
        .limit(1)
    )
    return 0 if remaining is None else max(1, int(remaining))


def _subject(attempt: LoginAttempt) -> str:
    if attempt.user is not None:
        return str(attempt.user.id)
    key = settings.secret_key.encode()
    return f"unknown:{hmac.digest(key, attempt.username.encode(), 'sha256').hex()[:32]}"


SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

# SQLAdmin calls these with GET, although they change data.
_CHANGING_PATH = re.compile(r"/logout/?$|/(?P<identity>[^/]+)/action/(?P<action>[^/]+)/?$")
_STATIC_PATH = re.compile("/(statics|_kit)/")


LOG_IN_BODY_LIMIT = 16_384
"""Bytes of the log-in form, which anybody may send."""


class AdminRequestGuard:
    """ASGI middleware: answers 403 to a request from another site that would change data.

    A HEAD is answered as a GET is, since SQLAdmin takes any other method for a form that was sent.
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
        if scope["method"] == "HEAD":
            scope = {**scope, "method": "GET"}  # a copy: the server has to send no body
        changes = scope["method"] not in SAFE_METHODS or _CHANGING_PATH.search(scope["path"])
        if changes and not is_from_our_pages(Headers(scope=scope)):
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
            if message["type"] == "http.response.start" and not _STATIC_PATH.search(scope["path"]):
                MutableHeaders(scope=message).setdefault("Cache-Control", "no-store")
            await send(message)

        token = current_admin_request.set(AdminRequest(client=client_address(scope)))
        app = self._log_in if scope["path"].endswith("/login") else self.app
        try:
            await app(scope, receive, send_with_headers)
        finally:
            current_admin_request.reset(token)


def is_from_our_pages(headers: Headers) -> bool:
    """Whether a browser's request comes from a page of this service; programs pass."""
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site in ("same-origin", "none")  # none: typed, or from a bookmark
    origin = headers.get("origin")
    # With neither header it is no browser, or an old one for which SameSite has to be enough.
    return origin is None or urlsplit(origin).netloc == headers.get("host")


SESSION_COOKIE = "admin_session"
DEVICE_COOKIE = "admin_device"
DEVICE_SECONDS = 180 * 24 * 3600
READS_ONLY = "You may read here, and not change anything: ask an administrator who is an editor."
CONCURRENT_LOGINS = 1
"""Limit for one process, of known browsers and of all others: a verification takes 64 MiB and a
processor, waiting costs nothing. So known ones do not wait behind a thousand guesses."""


class AdminAuthentication(AuthenticationBackend):
    """SQLAdmin's authentication backend, on the table of administrators."""

    templates: Jinja2Templates
    """SQLAdmin's templates, which are made after the backend."""

    def __init__(self, session_maker: sessionmaker[AuditedSession]) -> None:
        cookie: dict[str, Any] = {
            "secret_key": derived_key("admin session"),
            "session_cookie": SESSION_COOKIE,
            "max_age": settings.ADMIN_SESSION_SECONDS,
            "same_site": "strict",
            "https_only": not settings.is_local,
        }
        self.middlewares = [Middleware(_SessionOfTheService, **cookie)]
        self._read_session = SessionMiddleware(_no_app, **cookie)
        self._session_maker = session_maker
        self._devices = URLSafeTimedSerializer(derived_key("admin device"))
        self._known_limiter = CapacityLimiter(CONCURRENT_LOGINS)
        self._others_limiter = CapacityLimiter(CONCURRENT_LOGINS)

    async def login(self, request: Request) -> Response | bool:
        """Log in with the form's username and password.

        Returns:
            A redirection to the page that wanted the log-in, or to the start page; 429 after too
            many attempts; otherwise false, for which SQLAdmin shows the form again.
        """
        form = await request.form()
        known = self._known_browser(request.cookies.get(DEVICE_COOKIE, ""))
        try:
            user = await anyio.to_thread.run_sync(
                self._log_in,
                str(form.get("username", "")),
                str(form.get("password", "")),
                request.scope,
                known,
                limiter=self._known_limiter if known else self._others_limiter,
            )
        except TooManyAttemptsError as error:
            return await self._too_many_attempts(request, error.retry_after)
        if user is None:
            return False
        request.session.clear()
        request.session.update(
            user_id=user.id,
            version=user.session_version,
            ends_at=int(time.time()) + settings.ADMIN_SESSION_SECONDS,
        )
        page = request.query_params.get("next", "")
        # A path of this service only: `//host/` would be another.
        is_ours = page.startswith("/") and not page.startswith(("//", "/\\"))
        target = page if is_ours else request.url_for("admin:index")
        response = RedirectResponse(target, HTTPStatus.FOUND)
        self._remember_device(request, response, user)
        return response

    async def logout(self, request: Request) -> bool:
        """End every session of the account, so that a copied cookie is worthless too."""
        session_data = dict(request.session)
        request.session.clear()
        if session_data:
            await anyio.to_thread.run_sync(self._log_out, session_data)
        return False  # for which SQLAdmin shows the log-in form

    async def authenticate(self, request: Request) -> bool:
        """Whether the request has a valid session; notes its administrator for the audit.

        Raises:
            HTTPException: 403 for a change by a reader.
        """
        if not request.session:
            return False
        user = await anyio.to_thread.run_sync(self._session_user, dict(request.session))
        if user is None:
            request.session.clear()
            return False
        path = _CHANGING_PATH.search(request.url.path)
        action = path and path["action"]
        if not may_change(user) and (action or request.method not in SAFE_METHODS):
            raise HTTPException(HTTPStatus.FORBIDDEN, READS_ONLY)
        if context := current_admin_request.get():
            context.actor, context.may_change = user.username, may_change(user)
        if path and action:
            keys = request.query_params.get("pks", "")
            await anyio.to_thread.run_sync(self._record_action, path["identity"], action, keys)
        return True

    async def user_of_page(self, request: Request) -> AdminUser | None:
        """The administrator whose session a page's request has, outside of the admin."""
        scope: dict[str, Any] = {"type": "http", "headers": request.scope["headers"]}
        await self._read_session(scope, request.receive, _no_app)
        session_data = dict(scope["session"])
        if not session_data:
            return None
        return await anyio.to_thread.run_sync(self._session_user, session_data)

    def _log_in(
        self, username: str, password: str, scope: Scope, known: tuple[int, str] | None
    ) -> AdminUser | None:
        client = client_address(scope)
        with self._session_maker() as session:
            user = _user_named(session, username)
            attempt = LoginAttempt(
                username=username.strip().lower(),
                user=user,
                client=client_network(client)[:64],
                device=known[1] if known and user and user.id == known[0] else "",
                is_shared=is_public(client) and reported_client(scope) is not None,
            )
            entry_id = reserve_attempt(session, attempt)
        password_hash = user.password_hash if user and user.is_active else None
        if not verify_password(password, password_hash) or user is None:
            return None
        with self._session_maker.begin() as session:
            session.exec(
                update(AuditEntry)
                .where(col(AuditEntry.id) == entry_id)
                .values(action=AuditAction.LOGIN)
            )
            session.exec(
                update(AdminUser)
                .where(col(AdminUser.id) == user.id)
                .values(last_login_at=func.now())
            )
        return user

    def _session_user(self, session_data: dict[str, Any]) -> AdminUser | None:
        with self._session_maker() as session:
            return _user_of_session(session, session_data)

    def _log_out(self, session_data: dict[str, Any]) -> None:
        with self._session_maker.begin() as session:
            user = _user_of_session(session, session_data)
            if user is None:
                return
            user.session_version += 1
            context = current_admin_request.get()
            session.add(
                AuditEntry(
                    action=AuditAction.LOGOUT,
                    actor=user.username,
                    client=context.client if context else "",
                    subject_type=AdminUser.__tablename__,
                    subject_id=str(user.id),
                )
            )

    def _record_action(self, identity: str, name: str, keys: str) -> None:
        """Record that an action is about to run: it may do more than change rows."""
        entry = audit_entry(
            AuditAction.ACTION,
            subject_type=identity[:128],
            subject_id=keys[:255],
            details={"action": name},
        )
        with self._session_maker.begin() as session:
            session.add_all([entry] if entry else [])

    def _known_browser(self, cookie: str) -> tuple[int, str] | None:
        """Id of the last user who has logged in with the browser, and the browser's."""
        try:
            user_id, device = self._devices.loads(cookie, max_age=DEVICE_SECONDS)
        except (BadSignature, TypeError, ValueError):
            return None
        return user_id, str(device)

    def _remember_device(self, request: Request, response: Response, user: AdminUser) -> None:
        response.set_cookie(
            DEVICE_COOKIE,
            str(self._devices.dumps([user.id, secrets.token_hex(8)])),
            max_age=DEVICE_SECONDS,
            path=request.scope["root_path"],
            secure=not settings.is_local,
            httponly=True,
            samesite="strict",
        )

    async def _too_many_attempts(self, request: Request, retry_after: int) -> Response:
        minutes = math.ceil(retry_after / 60)
        response = await self.templates.TemplateResponse(
            request,
            "sqladmin/login.html",
            {"error": f"Too many attempts. Try again in {minutes} min."},
            status_code=HTTPStatus.TOO_MANY_REQUESTS,
        )
        response.headers["Retry-After"] = str(retry_after)
        return response


class AdminAuthorization(AuthorizationBackend):
    """SQLAdmin's authorization backend: readers see neither forms nor buttons of changes."""

    def has_permission(
        self, request: Request, identity: str, action: str, obj: Any | None = None
    ) -> bool:
        """Whether the administrator's role allows the action."""
        del request, identity, obj
        context = current_admin_request.get()
        is_reading = action in (Action.LIST, Action.DETAILS, Action.EXPORT)
        return is_reading or (context is not None and context.may_change)


class _SessionOfTheService(SessionMiddleware):
    """Sets the cookie for the whole service: pages beside the admin may need its log-in, too."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        self.path = root_path(scope) or "/"  # the server's, which does not change while it runs
        outer = scope.get("session", {})  # the service's own, whose middleware reads it as it sends

        async def send_outside(message: Message) -> None:
            inner, scope["session"] = scope["session"], outer
            await send(message)
            scope["session"] = inner

        await super().__call__(scope, receive, send_outside)


def may_change(user: AdminUser) -> bool:
    """Whether the administrator's role is one that changes rows."""
    return user.role == AdminRole.EDITOR


async def _no_app(*_: object) -> None:
    """Stand behind a middleware whose effect on the scope is all that is wanted."""


def derived_key(purpose: str) -> str:
    """Derive a key for one purpose, so that a signature is worthless for any other."""
    return hmac.digest(settings.secret_key.encode(), purpose.encode(), "sha256").hex()


def _user_named(session: Session, username: str) -> AdminUser | None:
    try:
        username = normalise_username(username)
    except ValueError:
        username = ""  # matches no account; the query still runs, so that it takes as long
    return session.exec(select(AdminUser).where(AdminUser.username == username)).first()


def _user_of_session(session: Session, session_data: dict[str, Any]) -> AdminUser | None:
    if session_data.get("ends_at", 0) <= time.time():
        return None
    return session.exec(
        select(AdminUser).where(
            AdminUser.id == session_data.get("user_id"),
            AdminUser.session_version == session_data.get("version"),
            col(AdminUser.is_active),
        )
    ).first()


ADMINISTRATORS = Kind("administrator")


async def require_admin(request: HTTPConnection) -> Principal:
    """Open a page only to an administrator who is logged in; a page takes `admin: AdminDep`.

    A browser without a session is sent to the log-in, and from there back to the page. The
    administrator is also stored in `request.state.principal`. A WebSocket counts as a change.

    Raises:
        HTTPException: 303 to the log-in; 401 where that is no answer, as for a script's request;
            403 for a form of another site, and for a change by a reader.
    """
    authentication = cast("AdminAuthentication", request.app.state.admin.authentication_backend)
    user = await authentication.user_of_page(cast("Request", request))
    method = request.scope.get("method", "")
    if user is None:
        log_in = request.url_for("admin:login").include_query_params(
            next=f"{request.url.path}?{request.url.query}".rstrip("?")
        )
        if method == "GET" and "text/html" in request.headers.get("accept", ""):
            raise HTTPException(HTTPStatus.SEE_OTHER, headers={"Location": str(log_in)})
        raise Problem(
            HTTPStatus.UNAUTHORIZED, f"Log in at {log_in.path}: this is for administrators."
        )
    if method not in SAFE_METHODS:
        if not is_from_our_pages(request.headers):
            raise Problem(HTTPStatus.FORBIDDEN, "Refused: the request comes from another site.")
        if not may_change(user):
            raise Problem(HTTPStatus.FORBIDDEN, READS_ONLY)
    role = {"role": str(user.role)}
    principal = Principal(kind=ADMINISTRATORS, id=str(user.id), name=user.username, claims=role)
    request.state.principal = principal
    return principal


GUARDS[require_admin] = Serves((ADMINISTRATORS,))
AdminDep = Annotated[Principal, Depends(require_admin)]
