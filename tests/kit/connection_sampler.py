"""Who holds how many connections to a Redis server, looked at many times a second."""

import threading
import time
from collections import Counter
from types import TracebackType

from kit.process import ProcessName, parse_process_name
from kit.testing._processes import RedisServer

INTERVAL_SECONDS = 0.05

Sample = Counter[ProcessName | None]
"""Connections by the process that holds them; None for those that carry no process's name."""


class ConnectionSampler:
    """Asks a server for its connections every 50 ms, on a connection of its own.

    Its own connection is in no sample; it is one of those that the server's limit counts.
    """

    def __init__(self, server: RedisServer) -> None:
        self.samples: list[Sample] = []
        self.fullest: dict[str, str] = {}
        """For each role, the connections of its process when it first held the most."""
        # It waits for a server that stands still, as some tests make it.
        self._client = server.client(single_connection_client=True, socket_timeout=60)
        self._own_id = self._client.client_id()
        self._most: Sample = Counter()
        self._end = threading.Event()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._sample_until_the_end, daemon=True)

    def __enter__(self) -> "ConnectionSampler":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end.set()
        self._thread.join()
        self._client.close()
        if self._error is not None and value is None:
            raise self._error

    def _sample_until_the_end(self) -> None:
        try:
            while not self._end.is_set():
                began = time.monotonic()
                self.samples.append(self._sample())
                self._end.wait(max(0, began + INTERVAL_SECONDS - time.monotonic()))
        except Exception as error:  # noqa: BLE001 (raised again in the test's own thread)
            self._error = error

    def _sample(self) -> Sample:
        clients = [
            (parse_process_name(each["name"]), each)
            for each in self._client.client_list()
            if int(each["id"]) != self._own_id
        ]
        sample = Counter(process for process, _ in clients)
        for process in sample - self._most:
            role = process.role if process else "nameless"
            self.fullest[role] = ", ".join(
                f"{each['id']} {each['age']} s old, {each['cmd']} {each['idle']} s ago"
                for holder, each in clients
                if holder == process
            )
        self._most |= sample
        return sample


def peak(samples: list[Sample]) -> int:
    """Most connections that were open at once."""
    return max(sample.total() for sample in samples)


def most_by_process(samples: list[Sample]) -> Sample:
    """Most connections that each process held at once."""
    most: Sample = Counter()
    for sample in samples:
        most |= sample
    return most


def most_by_role(samples: list[Sample]) -> dict[str, int]:
    """Most that one process of each role held at once; `nameless` are all without a name together.

    The service's own connections are nameless for a moment, until they have said their name.
    """
    most: dict[str, int] = {}
    for process, connections in most_by_process(samples).items():
        role = process.role if process else "nameless"
        most[role] = max(connections, most.get(role, 0))
    return most
