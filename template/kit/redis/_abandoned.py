"""Connections to Redis that leave none behind.

A server does not hear of it when the network between goes away: it keeps a connection that the
process has long given up, for minutes, while the process holds another in its place. Together they
would be beyond its budget. So each connection, as soon as it is open, has the server end those that
this process has given up; of most the server knows, and then it does nothing.
"""

import os
import re
from functools import cache
from typing import Any

import redis
from redis.utils import str_if_bytes

Identity = tuple[str, str]
"""Number and address of a connection as the server has them."""

_given_up: set[Identity] = set()

_Base: Any = object


@cache
def leaving_none_behind(base: Any) -> Any:  # noqa: ANN401 (redis-py has no type for them all)
    """The class of connections that is `base` and leaves none behind."""
    return type(base.__name__, (_LeavingNoneBehind, base), {})


class _LeavingNoneBehind(_Base):  # type: ignore[misc]
    _identity: Identity | None = None

    def on_connect_check_health(self, check_health: bool = True) -> None:  # noqa: FBT001, FBT002
        super().on_connect_check_health(check_health)
        left = _given_up.copy()
        kills = [("CLIENT", "KILL", "ID", number, "ADDR", address) for number, address in left]
        said = self._ask(("CLIENT", "INFO"), *kills)
        _given_up.difference_update(left)
        if found := re.match(r"id=(\d+) addr=(\S+)", said):
            self._identity = found[1], found[2]

    def disconnect(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        super().disconnect(*args, **kwargs)
        # After a fork the parent's connections are not the child's to end.
        if self._identity and self.pid == os.getpid():
            _given_up.add(self._identity)
        self._identity = None

    def _ask(self, *commands: tuple[str, ...]) -> str:
        """The first command's answer; empty where a plan forbids it."""
        for command in commands:
            self.send_command(*command, check_health=False)
        answers = []
        for _ in commands:
            try:
                answers.append(str(str_if_bytes(self.read_response())))
            except redis.ResponseError:
                answers.append("")
        return answers[0]
