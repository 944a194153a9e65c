"""Flower's receiver of the events of workers and tasks, and the protection of its pages."""

import logging
import time
from typing import Any

from celery.events import EventReceiver

from kit.context import client_network
from kit.places import service
from kit.process import configure_logging
from kit.settings import settings

logger = logging.getLogger(__name__)

PAUSE_SECONDS = 5
"""Pause between two attempts to reach a Redis that is away."""


def receive_events(events: Any) -> None:
    """Receive events until the process ends, in the thread that Flower has for them.

    Flower's own doubles its pause with each attempt, without a limit: when Redis comes back, it may
    miss events for as long again as Redis was away.
    """
    while True:
        try:
            with service.celery_app.connection() as connection:
                handlers = {"*": events.on_event}
                receiver = EventReceiver(connection, handlers=handlers, app=service.celery_app)
                receiver.capture(limit=None, timeout=None, wakeup=True)
        except Exception as error:  # noqa: BLE001 (after any error, events have to be received)
            logger.warning("Redis is lost (%s); Flower tries again in %d s", error, PAUSE_SECONDS)
            time.sleep(PAUSE_SECONDS)


KNOWN_BROWSER = "flower_browser"
"""A cookie that is signed with a key of this process: its browser has logged in before."""


def protect_pages() -> None:
    """Put `/metrics` behind the log-in, limit wrong guesses, and send the security headers.

    A browser that has logged in before is never refused, so that others who share its address
    cannot lock it out.
    """
    # Large, and for Flower alone.
    from flower.views import BaseHandler, monitor  # type: ignore[import-untyped]  # noqa: PLC0415
    from tornado import web  # noqa: PLC0415

    logging.getLogger().handlers.clear()  # Tornado's
    configure_logging()
    failures: dict[str, list[float]] = {}
    user_of, headers_of = BaseHandler.get_current_user, BaseHandler.set_default_headers

    def get_current_user(handler: Any) -> Any:
        now, client = time.monotonic(), client_network(handler.request.remote_ip)
        since = now - settings.ADMIN_LOGIN_WINDOW
        recent = [moment for moment in failures.get(client, ()) if moment > since]
        is_known = handler.get_signed_cookie(KNOWN_BROWSER) is not None
        if len(recent) >= settings.ADMIN_LOGIN_ATTEMPTS and not is_known:
            raise web.HTTPError(429, "Too many attempts. Try again later.")
        try:
            user = user_of(handler)
        except web.HTTPError:
            if "Authorization" in handler.request.headers:
                failures[client] = [*recent, now][-settings.ADMIN_LOGIN_ATTEMPTS :]
            raise
        if not is_known:
            handler.set_secure_cookie(KNOWN_BROWSER, "1")
        return user

    def set_default_headers(handler: Any) -> None:
        if isinstance(handler, BaseHandler):
            headers_of(handler)
        # The list of workers has a script in its page.
        scripts = f"{settings.API_CONTENT_SECURITY_POLICY}; script-src 'self' 'unsafe-inline'"
        for name, value in (
            settings.security_headers | {"Content-Security-Policy": scripts}
        ).items():
            handler.set_header(name, value)

    monitor.Metrics.get = web.authenticated(monitor.Metrics.get)
    BaseHandler.get_current_user = get_current_user
    BaseHandler.set_default_headers = set_default_headers
    web.StaticFileHandler.set_default_headers = set_default_headers  # type: ignore[assignment,method-assign]
