"""The task queue: `celery_app`, which sends and runs the tasks of `app/tasks/` and of extensions.

Importing this module starts no server and asks for no address: Celery calls `configuration` when
it first needs it. Signals and options of your own go below.
"""

from kit.queue import TaskQueue, configuration, enqueue

__all__ = ["celery_app", "enqueue"]

celery_app = TaskQueue("service", include=["app.tasks"])
celery_app.add_defaults(configuration)
