"""The service with one endpoint more, a sync one that sends a task: `python -m tests.load_service`.

The service's own endpoints are async. Those of its owner need not be.
"""

from http import HTTPStatus

from app.api.tasks import PingRequest
from app.commands import serve
from app.main import app
from app.tasks.diagnostics import ping

SYNC_PATH = "/sync-ping"


def send_ping(body: PingRequest) -> dict[str, str]:
    """Send a task as Celery's documentation shows it, in one of the threads of sync endpoints."""
    return {"id": ping.delay(body.message).id}


if __name__ == "__main__":
    serve.APPLICATION = "tests.load_service:app"
    serve.main([])
else:
    app.post(SYNC_PATH, status_code=HTTPStatus.ACCEPTED)(send_ping)
