"""The service with two endpoints more, which are sync: `python -m kit.tests.load_service`.

The service's own endpoints are async. Those of its owner need not be.
"""

from http import HTTPStatus

from app.main import app
from kit.commands import serve
from kit.http._routers import PingRequest
from kit.queue._tasks import ping

SYNC_PING = "/sync-ping"
SYNC_ANSWER = "/sync-answer"


def send_ping(body: PingRequest) -> dict[str, str]:
    """Send a task as Celery's documentation shows it, in one of the threads of sync endpoints."""
    return {"id": ping.delay(body.message).id}


def answer() -> dict[str, str]:
    """Need nothing but a thread."""
    return {"answer": "here"}


if __name__ == "__main__":
    serve.APPLICATION = "kit.tests.load_service:app"
    serve.main([])
else:
    app.post(SYNC_PING, status_code=HTTPStatus.ACCEPTED)(send_ping)
    app.get(SYNC_ANSWER)(answer)
