"""A schedule on another Redis than the test run's, whose heartbeats show that beat is at work."""

from datetime import timedelta

import redis
from redbeat.schedulers import RedBeatSchedulerEntry  # type: ignore[import-untyped]

from kit.queue._app import TaskQueue, configuration
from kit.queue._tasks import heartbeat
from kit.testing._processes import RedisServer

EVERY_SECOND = "test.every-second"


class Elsewhere(TaskQueue):
    """The queue on another Redis, for looking at a schedule there."""

    def __init__(self, client: redis.Redis) -> None:
        super().__init__("elsewhere", set_as_current=False)
        self.add_defaults(configuration)
        self.conf.redbeat_key_prefix = "redbeat:"
        self._client = client

    @property
    def redbeat_redis(self) -> redis.Redis:
        return self._client


def run_heartbeat_every_second(server: RedisServer) -> None:
    """Put an entry into the schedule of a beat whose keys have no prefix."""
    with server.client() as client:
        entry = RedBeatSchedulerEntry(
            EVERY_SECOND, heartbeat.name, timedelta(seconds=1), app=Elsewhere(client)
        )
        entry.save()


def wait_for_heartbeat(server: RedisServer) -> None:
    """Return when a heartbeat went from beat through the broker to the worker."""
    with server.client() as client:
        client.config_set("notify-keyspace-events", "K$")
        with client.pubsub() as events:
            events.psubscribe("__keyspace@0__:heartbeat")
            assert events.get_message(timeout=5), "no answer to the subscription"
            assert events.get_message(timeout=20), "no heartbeat within 20 s"
