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
        self._take_free_ones()
        limit: int = self._clients[0].info("clients")["maxclients"]
        # Not until there are no others: one that ends after the hogs were refused leaves a place.
        while len(self._clients) < limit:
            for each in self._others():
                # Who has lost one may be quicker to take it again than the hogs are.
                self._clients[0].client_kill_filter(_id=each["id"])
            self._take_free_ones()
        return limit

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
