"""Schedules of the service's tasks: entries of Celery's beat, stored as `service.<name>`.

"close-old-orders": {"task": close_old_orders.name, "schedule": crontab(hour=3, minute=0)},
"""

from typing import Any

SCHEDULES: dict[str, dict[str, Any]] = {}
