"""The id of the task that is running: `logger.info(f"{get_task_id()}Processing …")`.

Signals of Celery bind it before a task runs and unbind it after. This module does not import
Celery, so logging and models can use it.
"""

from kit.context import bind_task_id, get_task_id, unbind_task_id

__all__ = ["bind_task_id", "get_task_id", "unbind_task_id"]
