"""Clients that ask a service all the time, to see whether a deployment fails any of them."""

import http.client
import socket
import ssl
import threading
import time
from collections import Counter
from pathlib import Path

from tests.containers import PATIENCE


class Callers:
    """Five clients of a site on this machine, each of which asks up to ten times a second."""

    def __init__(
        self, name: str, certificate: Path, token: str, *, body: bytes = b"", one_in: int = 20
    ) -> None:
        """Prepare; nothing is asked.

        Args:
            name: of the site.
            certificate: of those who may vouch for it.
            token: of the API.
            body: of the requests that send a task.
            one_in: how many requests does so.
        """
        self.answers: Counter[int | str] = Counter()
        self.longest = 0.0
        self._name = name
        self._headers = {"Host": name, "Authorization": f"Bearer {token}"}
        self._body, self._one_in = body or None, one_in
        self._context = ssl.create_default_context(cafile=certificate)
        self._end = threading.Event()

    def __enter__(self) -> "Callers":
        """Begin."""
        self._threads = [threading.Thread(target=self._call) for _ in range(5)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End."""
        self._end.set()
        for thread in self._threads:
            thread.join()

    def _call(self) -> None:
        count = 0
        while not self._end.wait(0.1):
            count += 1
            method = "GET" if count % self._one_in else "POST"
            asked = time.monotonic()
            try:
                self.answers[self._answer(method)] += 1
            except (OSError, http.client.HTTPException) as error:
                self.answers[repr(error)] += 1
            self.longest = max(self.longest, time.monotonic() - asked)

    def _answer(self, method: str) -> int:
        with (
            socket.create_connection(("127.0.0.1", 443), timeout=PATIENCE) as plain,
            self._context.wrap_socket(plain, server_hostname=self._name) as encrypted,
        ):
            connection = http.client.HTTPConnection(self._name)
            connection.sock = encrypted
            body = self._body if method == "POST" else None
            connection.request(method, "/api/naps/0.05", body, headers=self._headers)
            return connection.getresponse().status
