"""Pages that people see, rendered on the server; they stand beside `/api`, not below it."""

from typing import NamedTuple

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from app.core.config import settings
from app.core.templates import templates

router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)


class Link(NamedTuple):
    """A part of the service that the start page leads to."""

    name: str
    url: str
    description: str


@router.get("/")
async def read_start_page(request: Request) -> HTMLResponse:
    """What this service is, how it is doing, and where its parts are."""
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
        links.append(Link("Tasks", flower, "What the workers do, in Flower"))
    return links
