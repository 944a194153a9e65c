import time
from typing import Any

import httpx
import pytest

RESULTS = {
    "spectrum": "_wD-",
    "price": {"net": "19.90", "_salt": 1},
    "broken-sensor": [0.5, None, None],
    "moment": ["2026-05-17T08:30:00Z", "2026-05-17"],
    "serial": "00000000-0000-0000-0000-000000000007",
    "nothing": None,
    "distance": 2**200,
}


def measure(service: httpx.Client, kind: str) -> dict[str, Any]:
    task_id = service.post("/api/probes", json={"kind": kind}).json()
    deadline = time.monotonic() + 30
    while not (task := service.get(f"/api/tasks/{task_id}").json())["ready"]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return dict(task)


@pytest.mark.slow
def test_every_result_is_read_back(running_service: httpx.Client) -> None:
    assert {kind: measure(running_service, kind)["result"] for kind in RESULTS} == RESULTS


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "error", "message"),
    [
        ("colours", "EncodeError", "set is not JSON serializable"),
        ("sample", "ValidationError", "grams\n  Input should be a valid integer"),
        ("count", "RuntimeError", "a worker has no async connections"),
    ],
)
def test_what_fails_says_why(
    running_service: httpx.Client, kind: str, error: str, message: str
) -> None:
    task = measure(running_service, kind)
    assert (task["state"], task["error"]["type"]) == ("FAILURE", error)
    assert message in task["error"]["message"]
