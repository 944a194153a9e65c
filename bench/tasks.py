"""Tasks a second through a solo worker, from sending them to having their results."""

from bench.measurement import Goal, Row, in_turn
from bench.service import FLOORS, production, running_stock_worker, running_worker
from bench.workshop import Workshop

COUNT = 300
SENDER = FLOORS.parent / "in_project" / "task_rate.py"


def measure(workshop: Workshop) -> list[Row]:
    """The service's ping task, beside the same one on Celery's own settings."""
    project = workshop.installed
    settings = production(workshop.servers, workshop.servers.direct)
    settings["REDIS_KEY_PREFIX"] = "service:"  # so that the two share no queue
    stock = {"REDIS_URL": workshop.servers.redis}
    with running_worker(project, settings), running_stock_worker(project, stock):
        samples, floor = in_turn(
            lambda: float(project.run_python(str(SENDER), "service", str(COUNT), **settings)),
            lambda: float(project.run_python(str(SENDER), "stock", str(COUNT), **stock)),
            warm_ups=1,
        )
    goal = Goal(1.0, at_least=True)
    what = f"{COUNT} tasks sent and their results fetched, solo worker"
    return [Row("tasks", what, "tasks/s", samples, floor, "Celery's own settings", goal)]
