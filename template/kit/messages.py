"""Messages: one part of the service publishes what happened, handlers in other parts react.

    @handles("order.paid")
    def note_parcel(message: Message) -> None:
        message.session.add(Parcel(order_id=message.payload["order_id"]))

    await publish(session, "order.paid", {"order_id": order.id})

Handlers are ordinary functions, registered in `app/message_handlers.py` and in an extension's
`message_handlers.py`. The sender knows none of them, so an extension can react to core, and to
another extension, without importing it. There are two kinds:

* **Before commit** (the default): runs inside `publish`, on the sender's session, each handler in
  a savepoint of its own. Its writes are committed with the sender's work, or rolled back with it.
  When it raises, only its own writes are rolled back. A savepoint that is used costs two round
  trips.
* **After commit** (`after_commit=True`): runs when the sender's transaction has been committed and
  has returned its connection; for mail, tasks and all that cannot be undone. If it uses the
  message's session, that is one of its own, which is committed when it returns. If the sender's
  transaction, or the savepoint in which it published, is rolled back, it does not run; nor if the
  process dies in between.

`call_after_commit` waits for the commit in the same way without a message, for example to send a
task. Async code waits for handlers of both kinds. Those before commit share the session's
connection; those after commit run in a thread, so that they may block. A handler that raises is
logged and stops neither the others nor the sender.
"""

import logging
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property, partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from anyio import CapacityLimiter, to_thread
from sqlalchemy import event
from sqlalchemy.orm import Session as OrmSession
from sqlalchemy.orm import SessionTransaction
from sqlalchemy.util import await_only
from sqlalchemy.util.concurrency import in_greenlet
from sqlmodel import Session
from sqlmodel.ext.asyncio.session import AsyncSession

from kit.causes import first_line, is_outage
from kit.extensions import load_extensions
from kit.places import service

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Message:
    """A published message, as a handler receives it."""

    name: str
    """For example `order.paid`: the sender's part of the service, and what happened."""
    payload: Mapping[str, Any]
    session: Session
    """The sender's, before commit; one of the handler's own, after commit."""


class _CommittedMessage(Message):
    """A message after its commit, which opens a session when its handler first uses it."""

    def __init__(self, name: str, payload: Mapping[str, Any], opened: ExitStack) -> None:
        vars(self).update(name=name, payload=payload, _opened=opened)

    @cached_property
    def session(self) -> Session:
        session: Session = vars(self)["_opened"].enter_context(service.sync_session_maker())
        return session


Handler = Callable[[Message], None]


@dataclass(frozen=True)
class _Registered:
    call: Handler
    after_commit: bool

    @property
    def label(self) -> str:
        return f"{self.call.__module__}.{self.call.__qualname__}"


@dataclass
class _Pending:
    """A call that waits for a commit."""

    call: Callable[[], object]
    transaction: SessionTransaction
    is_committed: bool = False


EVERY_MESSAGE = "*"
"""Name under which a handler gets every message: for forwarding them, such as webhooks do."""

_handlers: dict[str, dict[str, _Registered]] = {}
_PENDING = "pending_messages"

# Threads of their own: slow handlers must not use up those that sync endpoints need.
_after_commit_threads = CapacityLimiter(4)


def handles(name: str, *, after_commit: bool = False) -> Callable[[Handler], Handler]:
    """Register a handler for the messages of one name, or for `EVERY_MESSAGE`.

    The same function registered again, as a reload does, replaces itself.
    """

    def register(call: Handler) -> Handler:
        registered = _Registered(call, after_commit)
        _handlers.setdefault(name, {})[registered.label] = registered
        return call

    return register


async def publish(session: AsyncSession, name: str, payload: Mapping[str, Any]) -> None:
    """Publish a message from async code; it need not have a handler.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: when the flush of the sender's own rows fails.
    """
    call: Any = publish_sync  # whose session is SQLModel's, as this one's is
    await session.run_sync(call, name, payload)


def publish_sync(session: Session, name: str, payload: Mapping[str, Any]) -> None:
    """Publish a message from a task or any other sync code; see `publish`."""
    registered = _handlers_of(name)
    if not registered:
        return
    # Outside of the handlers' savepoints: an error in the sender's own rows is the sender's.
    session.flush()
    for handler in registered:
        if not handler.after_commit:
            _run_in_savepoint(handler, Message(name, payload, session))
    if any(handler.after_commit for handler in registered):
        call_after_commit(session, partial(_run_after_commit, name, payload))


def call_after_commit(session: AsyncSession | Session, call: Callable[[], object]) -> None:
    """Call a function when the session's transaction has been committed, the same one only once.

    Like a handler after commit: not after a rollback, and an error is logged.
    """
    own = session.sync_session if isinstance(session, AsyncSession) else session
    transaction = own.get_nested_transaction() or own.get_transaction() or own.begin()
    own.info.setdefault(_PENDING, []).append(_Pending(call, transaction))


def setup_message_handlers() -> None:
    """Import every module that registers handlers; each process calls it when it starts.

    Raises:
        ExtensionError: when an extension's module does not import.
    """
    if find_spec("app.message_handlers"):
        import_module("app.message_handlers")
    load_extensions("message_handlers")


def _handlers_of(name: str) -> list[_Registered]:
    return [*_handlers.get(name, {}).values(), *_handlers.get(EVERY_MESSAGE, {}).values()]


def _run_in_savepoint(handler: _Registered, message: Message) -> None:
    try:
        with message.session.begin_nested():
            handler.call(message)
    except Exception as error:  # noqa: BLE001 (no handler may stop the others)
        _log_failure(f"handler {handler.label} failed for message {message.name}", error)


@event.listens_for(OrmSession, "after_commit")
def _note_commit(session: OrmSession) -> None:
    """Hand the calls of a committed savepoint over to the transaction around it."""
    transaction = session.get_nested_transaction() or session.get_transaction()
    for pending in session.info.get(_PENDING, ()):
        if transaction is None or pending.transaction is not transaction:
            continue
        if transaction.parent is None:
            pending.is_committed = True
        else:
            pending.transaction = transaction.parent


@event.listens_for(OrmSession, "after_transaction_end")
def _run_committed(session: OrmSession, transaction: SessionTransaction) -> None:
    """Make the calls of a committed transaction; drop those of one that was rolled back."""
    waiting: list[_Pending] = session.info.get(_PENDING, [])
    ended = [pending for pending in waiting if pending.transaction is transaction]
    # Taken out first: a handler may use this session again.
    waiting[:] = [pending for pending in waiting if pending.transaction is not transaction]
    for call in dict.fromkeys(pending.call for pending in ended if pending.is_committed):
        if in_greenlet():  # an AsyncSession: this is the event loop's thread
            await_only(to_thread.run_sync(_call, call, limiter=_after_commit_threads))
        else:
            _call(call)


def _call(call: Callable[[], object]) -> None:
    try:
        call()
    except Exception as error:  # noqa: BLE001 (the sender has committed)
        _log_failure(f"{call!r} failed after a commit", error)


def _run_after_commit(name: str, payload: Mapping[str, Any]) -> None:
    for handler in _handlers_of(name):
        if not handler.after_commit:
            continue
        try:
            with ExitStack() as opened:
                message = _CommittedMessage(name, payload, opened)
                handler.call(message)
                if "session" in vars(message):
                    message.session.commit()
        except Exception as error:  # noqa: BLE001 (no handler may stop the others)
            _log_failure(f"handler {handler.label} failed for message {name}", error)


def _log_failure(what: str, error: Exception) -> None:
    # During an outage every message fails alike; the stack trace would add nothing.
    logger.error(
        "%s: %s: %s",
        what,
        type(error).__name__,
        first_line(error),
        exc_info=None if is_outage(error) else error,
    )
