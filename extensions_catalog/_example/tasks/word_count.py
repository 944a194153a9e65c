"""Tasks that count the words of notes.

They are idempotent, since a task may run twice when a worker is lost.
"""

import logging

from sqlmodel import col, select

from app.core.celery import celery_app
from app.core.config import settings
from app.core.database import sync_session_maker
from app.core.task_context import get_task_id
from app.extensions._example.models import ExampleNote

logger = logging.getLogger(__name__)

BATCH_SIZE = 500


@celery_app.task(name=f"{settings.CELERY_TASKS_MODULE}.example.count_words")
def count_words(note_id: int) -> int | None:
    """Count one note's words and store the number; None when the note was deleted."""
    with sync_session_maker() as session:
        note = session.get(ExampleNote, note_id)
        if note is None:
            logger.info("%snote %s was deleted", get_task_id(), note_id)
            return None
        note.word_count = len(note.body.split())
        session.commit()
        return note.word_count


@celery_app.task(name=f"{settings.CELERY_TASKS_MODULE}.example.count_missing_words")
def count_missing_words() -> int:
    """Count the words of notes whose own task was lost; returns the number of notes."""
    statement = select(ExampleNote).where(col(ExampleNote.word_count).is_(None)).limit(BATCH_SIZE)
    with sync_session_maker() as session:
        notes = session.exec(statement).all()
        for note in notes:
            note.word_count = len(note.body.split())
        session.commit()
    return len(notes)
