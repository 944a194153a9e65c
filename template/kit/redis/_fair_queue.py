"""The queue of a pool's free connections, which serves waiting callers in their order of arrival.

The standard library's queues hand a returned item to the thread that asks at that moment: one that
has just returned a connection takes it again, and those that wait start over, until they time out.
"""

import threading
from collections import deque
from queue import Empty, Full, LifoQueue
from typing import Generic, TypeVar, cast

Item = TypeVar("Item")


class _Waiter(Generic[Item]):
    """A caller that waits, and the item that it was handed."""

    def __init__(self) -> None:
        self.item: Item | None = None
        self.is_served = threading.Event()


class FairQueue(LifoQueue[Item]):
    """A bounded stack (last in, first out) that serves callers in their order of arrival."""

    def __init__(self, maxsize: int = 0) -> None:
        super().__init__(maxsize)
        self._waiters: deque[_Waiter[Item]] = deque()

    def put(self, item: Item, block: bool = True, timeout: float | None = None) -> None:  # noqa: ARG002 (the base's signature)
        """Hand an item to the caller that has waited longest, or keep it; never waits.

        Raises:
            Full: when there are `maxsize` items.
        """
        with self.mutex:
            if self._waiters:
                waiter = self._waiters.popleft()
                waiter.item = item
                waiter.is_served.set()
                return
            if 0 < self.maxsize <= self._qsize():
                raise Full
            self._put(item)

    def get(self, block: bool = True, timeout: float | None = None) -> Item:
        """Take an item, at once or after waiting.

        Raises:
            Empty: when none came within `timeout` seconds.
        """
        with self.mutex:
            if self._qsize():
                return self._get()
            if not block:
                raise Empty
            waiter = _Waiter[Item]()
            self._waiters.append(waiter)
        try:
            waiter.is_served.wait(timeout)
        except BaseException:  # raised by a signal's handler: an item handed over must not get lost
            if not self._withdraw(waiter):
                self.put(cast("Item", waiter.item))
            raise
        if self._withdraw(waiter):
            raise Empty
        return cast("Item", waiter.item)

    def _withdraw(self, waiter: _Waiter[Item]) -> bool:
        """Stop waiting; returns whether the waiter had not been served yet."""
        with self.mutex:
            if waiter.is_served.is_set():
                return False
            self._waiters.remove(waiter)
            return True
