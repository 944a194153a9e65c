"""Routes below `/api/example`."""

from http import HTTPStatus
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query
from pydantic import AwareDatetime, BaseModel
from sqlalchemy import bindparam
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.core.celery import enqueue
from app.core.dependencies import ReadSessionDep, SessionDep
from app.extensions._example.models import ExampleNote, ExampleNoteInput, ExampleNoteOutput
from app.extensions._example.tasks import count_words
from kit.database import read_row
from kit.errors import Problem
from kit.listing import ListQuery, Page, read_page
from kit.messages import publish
from kit.security import serves

LARGEST_ID = 2**31 - 1
"""The largest value of PostgreSQL's `integer`."""

NOTE = select(ExampleNote).where(col(ExampleNote.id) == bindparam("note_id"))

router = APIRouter(
    tags=["Example notes"],
    dependencies=[serves(scope="example:read", write_scope="example:write")],
)

NoteId = Annotated[int, Path(ge=1, le=LARGEST_ID)]


class NoteQuery(ListQuery, model=ExampleNote):
    """What a list of notes can be narrowed and sorted by."""

    sort: Literal["id", "-id", "title", "-title", "created_at", "-created_at"] = "id"
    title__contains: str | None = None
    created_at__ge: AwareDatetime | None = None


class SentTask(BaseModel):
    """A task that a worker will run; `/api/tasks/{task_id}` shows its state."""

    task_id: str


@router.get("/notes")
async def list_notes(
    session: ReadSessionDep, query: Annotated[NoteQuery, Query()]
) -> Page[ExampleNoteOutput]:
    """List notes, a page of them after the cursor `after`."""
    return await read_page(session, select(ExampleNote), query, ExampleNoteOutput)


@router.get("/notes/{note_id}")
async def read_note(note_id: NoteId) -> ExampleNoteOutput:
    """Read one note; without a session, since this is what most requests ask for."""
    note = await read_row(NOTE, ExampleNoteOutput, note_id=note_id)
    if note is None:
        raise _missing(note_id)
    return note


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
        raise _missing(note_id)
    return note


def _missing(note_id: int) -> Problem:
    return Problem(HTTPStatus.NOT_FOUND, f"There is no note {note_id}.")
