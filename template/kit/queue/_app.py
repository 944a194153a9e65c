"""The Celery application's class, its configuration, and the handlers of Celery's signals.

Importing this module starts no server and asks for no address: Celery calls `configuration` when
it first needs it. At the end: Flower's receiver of events, and the protection of its pages.
"""

import inspect
import logging
import os
import re
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from celery import Celery, Task, signals
from celery.app.events import Events
from celery.canvas import Signature
from celery.concurrency import get_implementation
from celery.events import EventDispatcher, EventReceiver
from celery.exceptions import Reject
from celery.result import AsyncResult
from kombu.utils.url import maybe_sanitize_url
from redis import Redis

from kit.causes import is_outage
from kit.connections import begin_process
from kit.context import (
    bind_request_id,
    bind_task_id,
    client_network,
    get_request_id,
    unbind_request_id,
    unbind_task_id,
)
from kit.database import load_models
from kit.discovery import place_of
from kit.messages import setup_message_handlers
from kit.places import service
from kit.process import configure_logging, mask_secrets, this_process
from kit.redis import (
    BACKEND,
    BROKER_ATTEMPTS,
    CONNECT_TIMEOUT,
    CONTROL,
    DELIVERY_COUNT,
    SENT_AT,
    SOCKET_TIMEOUT,
    UNKNOWN_SINCE,
    WAITING_CHECK_INTERVAL,
    Transport,
    process_end,
    redis_client,
    refuse_large_payload,
    refuse_long_delay,
    run_redis_call,
    tls_options,
)
from kit.settings import BASE_DIR, StartupError, settings

logger = logging.getLogger(__name__)


# `celery flower` looks for its settings in the current folder and, finding none, would start
# without a login. A file that is named has to be there.
os.environ.setdefault("FLOWER_CONF", str(BASE_DIR / "flowerconfig.py"))

BEAT_LOOP_SECONDS = 5
BEAT_LOCK_SECONDS = 4 * BEAT_LOOP_SECONDS
"""How long the lock of a dead beat lasts; one on standby tries to take it each `BEAT_LOOP_SECONDS`.

RedBeat's default is 25 minutes.
"""

RESTORE_INTERVAL = 10
"""Seconds between two sweeps for tasks that were not finished within the visibility timeout."""


class _Dispatcher(EventDispatcher):
    """Sends events, of which Flower shows the errors, without the settings' secrets."""

    def send(self, type: str, *arguments: Any, **fields: Any) -> Any:  # noqa: A002 (Celery's name)
        """Send an event, once: a heartbeat that is retried keeps a worker from its end."""
        for name in ("exception", "traceback"):
            if fields.get(name):
                fields[name] = mask_secrets(str(fields[name]))
        return super().send(type, *arguments, **fields | {"retry": False})


class _Events(Events):
    dispatcher_cls: Any = _Dispatcher


class _Task(Task[..., Any]):
    """A task that is delivered again where Celery would drop it.

    That is when its retry cannot be sent, and when its arguments are those of another release.
    """

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        """Check the arguments, by what Celery checks a sender's with."""
        del task_id
        accept = getattr(self, "__header__", None)
        if accept is None or self.request.is_eager:
            return
        try:
            accept(*args, **kwargs)
        except TypeError as error:
            raise Reject(error, requeue=True) from error

    def retry(self, *arguments: Any, **options: Any) -> Any:
        """Send the task once more."""
        try:
            return super().retry(*arguments, **options)
        except Reject as error:
            reason, _ = error.args
            raise Reject(reason, requeue=is_outage(reason)) from error


class TaskQueue(Celery):
    """Celery on the process's Redis connections, with a check of every task that is sent."""

    task_cls: Any = _Task
    control_cls = CONTROL
    events_cls: Any = _Events

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        if options.get("set_as_current", True):
            # In every thread: the kit's own tasks are shared tasks, which use the default one.
            self.set_default()

    @property
    def redbeat_redis(self) -> Redis:
        """The client that RedBeat uses; without this attribute it would open its own."""
        return redis_client()

    def send_task(  # type: ignore[override]  # the options are passed on, whatever they are
        self,
        name: str,
        args: Any = None,
        kwargs: Any = None,
        **options: Any,
    ) -> AsyncResult[Any]:
        """Send a task by name; `delay()`, `apply_async()`, retries and schedules call this too.

        Raises:
            PayloadTooLargeError: when the arguments exceed `CELERY_PAYLOAD_LIMIT` bytes.
            DelayTooLongError: when `countdown` or `eta` and the task's longest run do not fit into
                `CELERY_VISIBILITY_TIMEOUT`.
            kombu.exceptions.EncodeError: when an argument cannot be written as JSON.
            kombu.exceptions.OperationalError: when Redis is lost.
        """
        refuse_large_payload(name, args, kwargs, options)
        refuse_long_delay(name, options.get("countdown"), options.get("eta"))
        return super().send_task(name, args, kwargs, **options)


async def enqueue(
    task: Task[..., Any] | Signature[Any],
    *args: Any,
    **kwargs: Any,
) -> AsyncResult[Any]:
    """Send a task from async code without blocking the event loop; returns its id and state.

    For options pass a signature: `await enqueue(export.signature(countdown=60), user_id)`.

    Raises:
        TaskRefusedError: when the task is refused, see `TaskQueue.send_task`.
        kombu.exceptions.OperationalError: when Redis is lost.
        RedisPoolBusyError: when Redis is too busy to take the task in time; it was not sent.
    """
    send: Callable[[], AsyncResult[Any]] = partial(task.apply_async, args, kwargs)
    return await run_redis_call(send)


def configuration() -> dict[str, Any]:
    """Celery's settings.

    Where a value is not a matter of taste, its comment has the reason.
    """
    redis_url = settings.REDIS_URL
    tls = tls_options(settings) or None
    return {
        "broker_url": redis_url,
        "broker_use_ssl": tls,
        # Connections of this pool cost no socket. It has one for every thread, two for those that
        # send workers requests: so a thread only ever waits for REDIS_POOL_SIZE, with a timeout.
        "broker_pool_limit": 1000,
        "broker_pool_acquire_timeout": settings.REDIS_POOL_TIMEOUT,
        "broker_connection_retry_on_startup": True,
        # Unlimited: after the default of 100 attempts, an hour, a worker would end.
        "broker_connection_max_retries": None,
        # A worker connects again when Redis refuses a command too, as one does that fails over.
        "broker_channel_error_retry": True,
        "broker_transport_options": {
            "visibility_timeout": settings.CELERY_VISIBILITY_TIMEOUT,
            "global_keyprefix": settings.REDIS_KEY_PREFIX,
            # A sweep finds tasks whose worker was lost. By default kombu does every tenth only.
            "unacked_restore_interval": RESTORE_INTERVAL,
            "unacked_restore_throttle": 1,
            "socket_keepalive": True,
            "socket_connect_timeout": CONNECT_TIMEOUT,
            "socket_timeout": SOCKET_TIMEOUT,
            "health_check_interval": WAITING_CHECK_INTERVAL,
            **BROKER_ATTEMPTS,
        },
        "result_backend": f"{BACKEND}+{redis_url}",
        "redis_backend_use_ssl": tls,
        "result_backend_transport_options": {"global_keyprefix": settings.REDIS_KEY_PREFIX},
        # One backend for all threads, not one for each.
        "result_backend_thread_safe": True,
        "result_expires": settings.CELERY_RESULT_EXPIRES,
        # JSON only: a reader of pickle runs any code that a stranger has written to Redis.
        "accept_content": ["json"],
        "task_serializer": "json",
        "result_serializer": "json",
        "event_serializer": "json",
        "timezone": settings.CELERY_TIMEZONE,
        "task_publish_retry_policy": BROKER_ATTEMPTS,
        # A task whose worker is lost runs again, so every task has to be idempotent.
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        "worker_prefetch_multiplier": 1,
        # Only the prefork pool can stop a task; solo lets it run and warns.
        "task_time_limit": settings.CELERY_TASK_MAX_SECONDS,
        # `--pool processes` on the command line changes it; Celery takes `--pool prefork` for its
        # own default, which does not.
        "worker_pool": "solo",
        "worker_consumer": "kit.queue._consumer:Consumer",
        "worker_concurrency": 1,
        "beat_scheduler": "kit.queue._tasks:Scheduler",
        "beat_max_loop_interval": BEAT_LOOP_SECONDS,
        # Shown by `inspect conf` and Flower as it is; the client is `TaskQueue.redbeat_redis`.
        "redbeat_redis_url": maybe_sanitize_url(redis_url),
        "redbeat_redis_options": {},
        "redbeat_key_prefix": f"{settings.REDIS_KEY_PREFIX}redbeat:",
        "redbeat_lock_timeout": BEAT_LOCK_SECONDS,
    }


@signals.setup_logging.connect
def _log_as_the_api_does(**_: Any) -> None:
    configure_logging()


@signals.celeryd_init.connect
def _prepare_worker(**_: Any) -> None:
    from celery.apps import worker  # noqa: PLC0415 (needed in workers only)
    from celery.worker.consumer.gossip import Gossip  # noqa: PLC0415
    from celery.worker.consumer.mingle import Mingle  # noqa: PLC0415

    worker.safe_say = lambda text, *_: logger.info(text)  # type: ignore[attr-defined] # not as text
    # As `--without-gossip --without-mingle`, set here so that no command line has to: the events
    # between workers cost each of them a connection, and nothing in a Redis setup needs them.
    Gossip.compatible_transports = Mingle.compatible_transports = set()
    # A task that ends while Redis is away waits to store its result, and is then acknowledged. The
    # tasks that it sends are retried after a timeout too: better twice than never. In workers only:
    # the API has to answer instead of waiting.
    service.celery_app.conf.result_backend_always_retry = True
    Transport.recoverable_connection_errors = Transport.connection_errors


@signals.worker_init.connect
def _begin_worker(sender: Any, **_: Any) -> None:
    load_models()
    for name, task in service.celery_app.tasks.items():
        if inspect.iscoroutinefunction(task.run):
            raise StartupError(
                f"{place_of(task.run)}: the task {name} is `async def`, which Celery does not "
                "await. Write `def`, and for the database `with sync_session_maker() as session`."
            )
    if re.search(r"(--pool|-P)[ =]?prefork", " ".join(sys.argv)) and not _is_prefork(sender):
        raise StartupError(
            "Celery takes `--pool prefork` for its default, which `worker_pool` replaces by "
            f"{service.celery_app.conf.worker_pool}: write `--pool processes`."
        )
    begin_process("worker", children=_children(sender))
    setup_message_handlers()


def _is_prefork(worker: Any) -> bool:
    return get_implementation(worker.pool_cls).__module__ == "celery.concurrency.prefork"


def _children(worker: Any) -> int:
    """Number of processes that a worker will fork, by its command line or configuration."""
    if not _is_prefork(worker):
        return 0
    if autoscale := worker.options.get("autoscale"):
        return int(max(autoscale))
    concurrency = worker.concurrency
    return int(concurrency) if str(concurrency).isdecimal() else os.cpu_count() or 1


@signals.worker_shutting_down.connect
def _begin_end(**_: Any) -> None:
    process_end.has_begun = True


@signals.worker_process_init.connect
def _leave_connections_to_parent(**_: Any) -> None:
    if this_process.is_forked:  # the solo pool sends this signal too, in the worker itself
        this_process.become("worker-child")
    # Without closing them: a forked child shares its parent's sockets.
    service.engine.sync_engine.dispose(close=False)
    service.sync_engine.dispose(close=False)


@signals.before_task_publish.connect
def _prepare_headers(
    headers: dict[str, Any], exchange: str, declare: list[Any] | None, **_: Any
) -> None:
    headers["request_id"] = get_request_id()
    headers[SENT_AT] = time.time()
    for name in (DELIVERY_COUNT, UNKNOWN_SINCE):
        headers.pop(name, None)  # a retry has the headers of the message before
    if declare and not exchange:
        # It goes to a queue by name, and Redis makes a list with its first message. kombu would
        # copy the queue for each message, to find that it is declared.
        declare[:] = [each for each in declare if each.expires or each.queue_arguments]


@signals.task_prerun.connect
def _begin_task(task_id: str, task: Task[..., Any], **_: Any) -> None:
    bind_task_id(task_id)
    request = task.request
    token = bind_request_id(request.get("request_id") or get_request_id())
    request.update(request_id_token=token, began=time.monotonic())


@signals.task_postrun.connect
def _end_task(task: Task[..., Any], **_: Any) -> None:
    seconds = time.monotonic() - task.request.get("began")
    if seconds > settings.CELERY_TASK_MAX_SECONDS:
        logger.warning(
            "%s ran %.0f s, longer than CELERY_TASK_MAX_SECONDS (%d): beyond "
            "CELERY_VISIBILITY_TIMEOUT (%d) it is redelivered to a second worker",
            task.name,
            seconds,
            settings.CELERY_TASK_MAX_SECONDS,
            settings.CELERY_VISIBILITY_TIMEOUT,
        )
    unbind_request_id(task.request.get("request_id_token"))
    unbind_task_id()


FLOWER_PAUSE_SECONDS = 5
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
            logger.warning(
                "Redis is lost (%s); Flower tries again in %d s", error, FLOWER_PAUSE_SECONDS
            )
            time.sleep(FLOWER_PAUSE_SECONDS)


KNOWN_BROWSER = "flower_browser"
"""A cookie that is signed with a key of this process: its browser has logged in before."""


class WrongLogins(dict[str, list[float]]):
    """When each network last failed to log in, the latest one at the end: of 10,000 at most."""

    MOST = 10_000

    def recent(self, client: str) -> list[float]:
        """The failures of a network within `ADMIN_LOGIN_WINDOW`, in seconds of the process."""
        since = time.monotonic() - settings.ADMIN_LOGIN_WINDOW
        return [moment for moment in self.get(client, ()) if moment > since]

    def add(self, client: str) -> None:
        """Add a failure, and drop the networks that are over or too many."""
        now = time.monotonic()
        failures = [*self.recent(client), now][-settings.ADMIN_LOGIN_ATTEMPTS :]
        self.pop(client, None)
        self[client] = failures
        while not self.recent(oldest := next(iter(self))) or len(self) > self.MOST:
            del self[oldest]


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
    failures = WrongLogins()
    user_of, headers_of = BaseHandler.get_current_user, BaseHandler.set_default_headers

    def get_current_user(handler: Any) -> Any:
        client = client_network(handler.request.remote_ip)
        is_known = handler.get_signed_cookie(KNOWN_BROWSER) is not None
        if len(failures.recent(client)) >= settings.ADMIN_LOGIN_ATTEMPTS and not is_known:
            raise web.HTTPError(429, "Too many attempts. Try again later.")
        try:
            user = user_of(handler)
        except web.HTTPError:
            if "Authorization" in handler.request.headers:
                failures.add(client)
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
