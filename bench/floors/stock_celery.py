"""Celery as its first steps show it, with one task: what the service's is compared with."""

import os

from celery import Celery

app = Celery("stock", broker=os.environ["REDIS_URL"], backend=os.environ["REDIS_URL"])
# Of its own: in Celery's default queue lies what the endpoints have sent.
app.conf.task_default_queue = "stock"


@app.task(name="stock.ping")
def ping(message: str) -> dict[str, str]:
    """Give the message back."""
    return {"message": message, "request_id": ""}
