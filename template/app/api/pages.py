"""Pages for people, rendered on the server; their routes are beside `/api`, not below it."""

from typing import NamedTuple

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from app.core.config import settings
from app.core.templates import templates

router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)


class Link(NamedTuple):
    """A link of the start page to a part of the service."""

    name: str
    url: str
    description: str


@router.get("/")
async def read_start_page(request: Request) -> HTMLResponse:
    """Show the start page: the service, its state, and links to its parts."""
    return templates.TemplateResponse(
        request,
        "index.html",
        {"description": settings.PROJECT_DESCRIPTION, "links": _links()},
    )


def _links() -> list[Link]:
    links = [Link("Admin", "/admin", "Look at the data and change it")]
    if settings.shows_api_docs:
        links.insert(0, Link("API", "/scalar", "Every endpoint, to read and to try"))
    if settings.is_local:  # elsewhere Flower is not reachable from outside
        flower = f"http://127.0.0.1:{settings.FLOWER_PORT}"
        links.append(Link("Tasks", flower, "The workers and their tasks, in Flower"))
    return links
