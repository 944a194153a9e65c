"""Threads that work as long as a block runs."""

import threading
from collections.abc import Callable, Sequence
from typing import Self


class Background:
    """Runs functions, each in a thread of its own, which return soon after `_end` is set."""

    def __init__(self, functions: Sequence[Callable[[], None]]) -> None:
        self._end = threading.Event()
        self._threads = [threading.Thread(target=function) for function in functions]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()
