"""The task queue: Celery on the process's Redis connections, schedules, and the kit's own tasks."""

from kit.queue._app import TaskQueue, configuration, enqueue, protect_pages, receive_events
from kit.queue._tasks import (
    HEARTBEAT_SECONDS,
    UNNAMED_PROXY,
    QueueStatus,
    RedisStatus,
    collect_schedules,
    delete_old_audit,
    heartbeat,
    ping,
    read_redis_status,
    remember_unnamed_proxy,
)
