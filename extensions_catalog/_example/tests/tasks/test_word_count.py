"""The tasks, called here in the test's transaction, and by a worker."""

import time

import httpx
import pytest
from sqlmodel import Session

from app.extensions._example.models import ExampleNote
from app.extensions._example.tasks import count_missing_words, count_words
from kit.queue import collect_schedules


@pytest.fixture
def note(sync_db_session: Session) -> ExampleNote:
    note = ExampleNote(title="Shopping", body="milk and\nbread")
    sync_db_session.add(note)
    sync_db_session.commit()
    return note


def test_a_deleted_note_is_no_error(sync_db_session: Session) -> None:
    assert count_words(2_147_483_647) is None


def test_counts_the_words(sync_db_session: Session, note: ExampleNote) -> None:
    assert count_words(note.id) == 3
    sync_db_session.refresh(note)
    assert note.word_count == 3


def test_twice_is_once(note: ExampleNote) -> None:
    assert count_words(note.id) == count_words(note.id) == 3


def test_counts_what_was_missed_and_nothing_else(
    sync_db_session: Session, note: ExampleNote
) -> None:
    sync_db_session.add(ExampleNote(title="Counted", body="one two", word_count=9))
    sync_db_session.commit()
    assert count_missing_words() == 1
    assert count_missing_words() == 0


def test_beat_makes_up_for_what_was_missed() -> None:
    entry = collect_schedules()["_example.count-missing-words"]
    assert entry["task"] == count_missing_words.name


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
