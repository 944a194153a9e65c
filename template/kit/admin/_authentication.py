"""Authentication of administrators: log-in, sessions and log-out.

The session is a signed cookie that names the account and its session version. Raising the version
(a new password, log-out, deactivation) ends every session of the account at its next request.
"""

import hmac
import math
import secrets
import time
from http import HTTPStatus
from typing import Any

import anyio.to_thread
from anyio import CapacityLimiter
from itsdangerous import BadSignature, URLSafeTimedSerializer
from sqladmin.authentication import AuthenticationBackend
from sqladmin.authorization import Action, AuthorizationBackend
from sqladmin.templating import Jinja2Templates
from sqlalchemy import func
from sqlalchemy.orm import sessionmaker
from sqlmodel import Session, col, select, update
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import Receive, Scope, Send

from kit.admin._audit import AuditedSession, audit_entry, current_admin_request
from kit.admin._login_throttle import LoginAttempt, TooManyAttemptsError, reserve_attempt
from kit.admin._request_guard import SAFE_METHODS, requested_action
from kit.context import client_address, client_network, is_public, reported_client, root_path
from kit.models import AdminRole, AdminUser, AuditAction, AuditEntry
from kit.security import normalise_username, verify_password
from kit.settings import settings

SESSION_COOKIE = "admin_session"
DEVICE_COOKIE = "admin_device"
DEVICE_SECONDS = 180 * 24 * 3600
READS_ONLY = "You may read here, and not change anything: ask an administrator who is an editor."
CONCURRENT_LOGINS = 2
"""Limit for one process: a verification takes 64 MiB and a processor, waiting costs nothing."""


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
        self._login_limiter = CapacityLimiter(CONCURRENT_LOGINS)

    async def login(self, request: Request) -> Response | bool:
        """Log in with the form's username and password.

        Returns:
            A redirection to the page that wanted the log-in, or to the start page; 429 after too
            many attempts; otherwise false, for which SQLAdmin shows the form again.
        """
        form = await request.form()
        try:
            user = await anyio.to_thread.run_sync(
                self._log_in,
                str(form.get("username", "")),
                str(form.get("password", "")),
                request.scope,
                request.cookies.get(DEVICE_COOKIE, ""),
                limiter=self._login_limiter,
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
        action = requested_action(request.url.path)
        if not may_change(user) and (action or request.method not in SAFE_METHODS):
            raise HTTPException(HTTPStatus.FORBIDDEN, READS_ONLY)
        if context := current_admin_request.get():
            context.actor, context.may_change = user.username, may_change(user)
        if action:
            keys = request.query_params.get("pks", "")
            await anyio.to_thread.run_sync(self._record_action, *action, keys)
        return True

    async def user_of_page(self, request: Request) -> AdminUser | None:
        """The administrator whose session a page's request has, outside of the admin."""
        scope: dict[str, Any] = {"type": "http", "headers": request.scope["headers"]}
        await self._read_session(scope, request.receive, _no_app)
        session_data = dict(scope["session"])
        if not session_data:
            return None
        return await anyio.to_thread.run_sync(self._session_user, session_data)

    def _log_in(self, username: str, password: str, scope: Scope, device: str) -> AdminUser | None:
        client = client_address(scope)
        with self._session_maker() as session:
            user = _user_named(session, username)
            attempt = LoginAttempt(
                username=username.strip().lower(),
                user=user,
                client=client_network(client)[:64],
                device=self._known_device(device, user),
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

    def _known_device(self, cookie: str, user: AdminUser | None) -> str:
        """Id of the browser if this user has logged in with it before, otherwise empty."""
        try:
            user_id, device = self._devices.loads(cookie, max_age=DEVICE_SECONDS)
        except (BadSignature, TypeError, ValueError):
            return ""
        return str(device) if user is not None and user.id == user_id else ""

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
        await super().__call__(scope, receive, send)


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
