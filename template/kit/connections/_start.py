"""What each lasting process of the service does first: API, worker, beat and Flower."""

from kit.connections._budget import refuse_more_than_the_plan
from kit.connections._processes import refuse_more_than_redis_gives
from kit.process import Role, start_local_services, this_process
from kit.settings import settings


def begin_process(role: Role, *, children: int | None = None) -> None:
    """Say what this process is, have its servers run, and make sure that they carry it.

    Args:
        role: what it is.
        children: processes that it forks, if it is a worker.

    Raises:
        StartupError: when plan or server have no room for it, or a server cannot be started.
    """
    refuse_more_than_the_plan(settings, children=children)
    this_process.become(role)
    start_local_services()
    refuse_more_than_redis_gives(children=children)
