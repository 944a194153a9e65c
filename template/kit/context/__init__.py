"""What runs right now: the ids of the request and of the task, for log lines."""

from kit.context._request import (
    REQUEST_ID_HEADER,
    accepted_request_id,
    bind_request_id,
    get_request_id,
    unbind_request_id,
)
from kit.context._task import bind_task_id, get_task_id, unbind_task_id
