"""Pages below `/example`."""

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse
from sqlmodel import col, select

from app.core.dependencies import ReadSessionDep
from app.core.templates import templates
from app.extensions._example.models import ExampleNote
from app.extensions._example.settings import example_settings

page_router = APIRouter(include_in_schema=False)


@page_router.get("/notes")
async def show_notes(request: Request, session: ReadSessionDep) -> HTMLResponse:
    """Show the newest notes."""
    statement = select(ExampleNote).order_by(col(ExampleNote.id).desc())
    notes = await session.exec(statement.limit(example_settings.PAGE_SIZE))
    return templates.TemplateResponse(request, "example/notes.html", {"notes": notes.all()})
