"""The service with two endpoints more, for outages: `run_api(…, module="tests.probed_service")`.

The service's own endpoints that send tasks are async, and none but reads the database. Those of
its owner need not be.
"""

from http import HTTPStatus

from sqlmodel import col, func, select

from app.api.tasks import PingRequest
from app.commands import serve
from app.core.dependencies import ReadSessionDep
from app.main import app
from app.models.admin_user import AdminUser
from app.tasks.diagnostics import ping

SYNC_PATH = "/probe/sync-ping"
DATABASE_PATH = "/probe/admin-users"


def send_ping(body: PingRequest) -> dict[str, str]:
    """Send a task as Celery's documentation shows it, in one of the threads of sync endpoints."""
    return {"id": ping.delay(body.message).id}


async def count_admin_users(session: ReadSessionDep) -> int:
    """Read the database and nothing else."""
    return (await session.exec(select(func.count(col(AdminUser.id))))).one()


if __name__ == "__main__":
    serve.APPLICATION = "tests.probed_service:app"
    serve.main([])
else:
    app.post(SYNC_PATH, status_code=HTTPStatus.ACCEPTED)(send_ping)
    app.get(DATABASE_PATH)(count_admin_users)
