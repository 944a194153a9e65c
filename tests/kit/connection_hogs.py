"""Other clients of a Redis, which take all the connections that it gives."""

from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from kit.testing._processes import RedisServer

NAME = "hog"


class ConnectionHogs:
    """Clients that hold connections and do nothing with them."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self._clients: list[redis.Redis] = []

    def __enter__(self) -> "ConnectionHogs":
        return self

    def __exit__(self, *_: object) -> None:
        self.give_back()

    def take_all(self) -> int:
        """Take every connection, those that others hold included; gives how many these are."""
        while True:
            self._take_free_ones()
            others = self._others()
            if not others:
                return len(self._clients)
            for each in others:
                # Who has lost one may be quicker to take it again than the hogs are.
                self._clients[0].client_kill_filter(_id=each["id"])

    def give_back(self) -> None:
        """Close them all."""
        for client in self._clients:
            client.close()
        self._clients.clear()

    def _take_free_ones(self) -> None:
        while True:
            client = self._server.client(client_name=NAME, retry=Retry(NoBackoff(), 0))
            try:
                client.ping()
            except redis.ConnectionError:
                return
            self._clients.append(client)

    def _others(self) -> list[dict[str, Any]]:
        clients: list[dict[str, Any]] = self._clients[0].client_list()
        return [each for each in clients if each["name"] != NAME]
