"""Routes below `/api/example`."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.core.celery import enqueue
from app.core.dependencies import ReadSessionDep, SessionDep
from app.extensions._example.models import ExampleNote, ExampleNoteInput, ExampleNoteOutput
from app.extensions._example.settings import example_settings
from app.extensions._example.tasks import count_words
from kit.errors import Problem
from kit.messages import publish
from kit.security import serves

LARGEST_ID = 2**31 - 1
"""The largest value of PostgreSQL's `integer`."""

router = APIRouter(
    tags=["Example notes"],
    dependencies=[serves(scope="example:read", write_scope="example:write")],
)

NoteId = Annotated[int, Path(ge=1, le=LARGEST_ID)]


class SentTask(BaseModel):
    """A task that a worker will run; `/api/tasks/{task_id}` shows its state."""

    task_id: str


@router.get("/notes", response_model=list[ExampleNoteOutput])
async def list_notes(
    session: ReadSessionDep, after: Annotated[int, Query(ge=0, le=LARGEST_ID)] = 0
) -> list[ExampleNote]:
    """List the notes in the order in which they were written, a page of them after note `after`."""
    statement = select(ExampleNote).where(col(ExampleNote.id) > after).order_by(col(ExampleNote.id))
    return list(await session.exec(statement.limit(example_settings.PAGE_SIZE)))


@router.get("/notes/{note_id}", response_model=ExampleNoteOutput)
async def read_note(session: ReadSessionDep, note_id: NoteId) -> ExampleNote:
    """Read one note."""
    return await _get_note(session, note_id)


@router.post("/notes", response_model=ExampleNoteOutput, status_code=HTTPStatus.CREATED)
async def create_note(session: SessionDep, values: ExampleNoteInput) -> ExampleNote:
    """Write a note; its words are counted soon after."""
    note = ExampleNote.model_validate(values)
    session.add(note)
    await session.flush()
    await publish(session, "example.note-created", {"note_id": note.id})
    await session.commit()
    return note


@router.delete("/notes/{note_id}", status_code=HTTPStatus.NO_CONTENT)
async def delete_note(session: SessionDep, note_id: NoteId) -> None:
    """Delete a note."""
    await session.delete(await _get_note(session, note_id))
    await session.commit()


@router.post("/notes/{note_id}/word-count", status_code=HTTPStatus.ACCEPTED)
async def recount_words(session: ReadSessionDep, note_id: NoteId) -> SentTask:
    """Send the task that counts a note's words again."""
    await _get_note(session, note_id)
    result = await enqueue(count_words, note_id)
    return SentTask(task_id=result.id)


async def _get_note(session: AsyncSession, note_id: int) -> ExampleNote:
    note = await session.get(ExampleNote, note_id)
    if note is None:
        raise Problem(HTTPStatus.NOT_FOUND, f"There is no note {note_id}.")
    return note
