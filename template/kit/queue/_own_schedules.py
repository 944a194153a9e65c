"""When core's tasks run. Beat stores each entry under `core.<name>`."""

from typing import Any

from kit.queue._heartbeat import HEARTBEAT_SECONDS, heartbeat

SCHEDULES: dict[str, dict[str, Any]] = {
    "heartbeat": {
        "task": heartbeat.name,
        "schedule": HEARTBEAT_SECONDS,
        # Without a worker they would pile up, each as out of date as the next.
        "options": {"expires": HEARTBEAT_SECONDS},
    },
}
