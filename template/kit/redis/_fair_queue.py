"""A stack of free things whose takers are served in the order in which they came.

The standard library's queues give what is put back to whoever asks at that moment: a thread that
just gave a connection back takes it again, and those that wait start over, until their time is up.
"""

import threading
from collections import deque
from queue import Empty, Full, LifoQueue
from typing import Generic, TypeVar, cast

Item = TypeVar("Item")


class _Taker(Generic[Item]):
    """One that waits, and what it got."""

    def __init__(self) -> None:
        self.item: Item | None = None
        self.is_served = threading.Event()


class FairQueue(LifoQueue[Item]):
    """A bounded stack for free connections: last in, first out; first come, first served."""

    def __init__(self, maxsize: int = 0) -> None:
        super().__init__(maxsize)
        self._takers: deque[_Taker[Item]] = deque()

    def put(self, item: Item, block: bool = True, timeout: float | None = None) -> None:  # noqa: ARG002 (the base's signature)
        """Give an item to the taker that has waited longest, or keep it; never waits.

        Raises:
            Full: when there are `maxsize` items.
        """
        with self.mutex:
            if self._takers:
                taker = self._takers.popleft()
                taker.item = item
                taker.is_served.set()
                return
            if 0 < self.maxsize <= self._qsize():
                raise Full
            self._put(item)

    def get(self, block: bool = True, timeout: float | None = None) -> Item:
        """An item, at once or after waiting.

        Raises:
            Empty: when none came within `timeout` seconds.
        """
        with self.mutex:
            if self._qsize():
                return self._get()
            if not block:
                raise Empty
            taker = _Taker[Item]()
            self._takers.append(taker)
        try:
            taker.is_served.wait(timeout)
        except BaseException:  # a signal's: what was handed over must not get lost
            if not self._withdraw(taker):
                self.put(cast("Item", taker.item))
            raise
        if self._withdraw(taker):
            raise Empty
        return cast("Item", taker.item)

    def _withdraw(self, taker: _Taker[Item]) -> bool:
        """Take back a wish; whether it was still open."""
        with self.mutex:
            if taker.is_served.is_set():
                return False
            self._takers.remove(taker)
            return True
