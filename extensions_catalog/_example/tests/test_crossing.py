"""From a request of the API to the result of a worker."""

import time

import httpx
import pytest


@pytest.mark.slow
def test_a_worker_counts_the_words_of_a_new_note(running_service: httpx.Client) -> None:
    answer = running_service.post(
        "/api/example/notes", json={"title": "T", "body": "one two three"}
    )
    assert answer.status_code == 201, answer.text
    note = f"/api/example/notes/{answer.json()['id']}"

    deadline = time.monotonic() + 20
    while running_service.get(note).json()["word_count"] is None:
        assert time.monotonic() < deadline, "no worker has counted the words"
        time.sleep(0.05)

    assert running_service.get(note).json()["word_count"] == 3
