"""Endpoints that are measured beside those of `_example`; the service finds them in `app/api/`."""

from app.core.celery import enqueue
from app.core.dependencies import ReadSessionDep, SessionDep
from app.extensions._example.models import ExampleNote, ExampleNoteInput, ExampleNoteOutput
from app.extensions._example.tasks import count_words
from fastapi import APIRouter
from kit.database import write_row
from sqlalchemy import insert

router = APIRouter(prefix="/measured")

NEW = insert(ExampleNote).returning(ExampleNote)


@router.get("/session/{note_id}", response_model=ExampleNoteOutput)
async def read_with_session(session: ReadSessionDep, note_id: int) -> ExampleNote | None:
    """Read a note with a session."""
    return await session.get(ExampleNote, note_id)


@router.post("/session", response_model=ExampleNoteOutput)
async def create_with_session(session: SessionDep, values: ExampleNoteInput) -> ExampleNote:
    """Write a note with a session, and send nothing."""
    note = ExampleNote.model_validate(values)
    session.add(note)
    await session.commit()
    return note


@router.post("")
async def create(values: ExampleNoteInput) -> ExampleNoteOutput | None:
    """Write a note, and send nothing."""
    return await write_row(NEW, ExampleNoteOutput, **values.model_dump())


@router.post("/sending")
async def create_and_send(values: ExampleNoteInput) -> ExampleNoteOutput | None:
    """Write a note, and have its words counted."""
    note = await write_row(NEW, ExampleNoteOutput, **values.model_dump())
    if note:
        await enqueue(count_words, note.id)
    return note
