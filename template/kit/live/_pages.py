"""Routes below `/_live`, and the state that the start page is rendered with."""

import logging
from collections.abc import AsyncIterator
from http import HTTPStatus

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import HTMLResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.types import ASGIApp, Receive, Scope, Send

from kit.context import root_path
from kit.errors import Problem
from kit.live._board import board
from kit.live._memory import memory
from kit.live._release import look_up_release
from kit.places import service

router = APIRouter(prefix="/_live", include_in_schema=False)


def setup_live(application: FastAPI) -> None:
    """Remember requests, and serve what `live/live.html` shows; for `ENVIRONMENT=local` alone."""
    logging.getLogger().addHandler(memory)
    service.templates.env.globals["board"] = board
    application.include_router(router)
    application.add_middleware(FreshBoard)


class FreshBoard:
    """Has the state read before the start page is rendered, which does not wait by itself."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http" and scope["path"].removeprefix(root_path(scope)) == "/":
            await board.refresh_for_page()
        await self.app(scope, receive, send)


@router.get("", response_class=EventSourceResponse)
async def watch(request: Request) -> AsyncIterator[ServerSentEvent]:
    """The board as HTML, for as long as the page is open or the server runs."""
    look_up_release()
    request.state.ends_with_server = True
    async for page in board.watch(request):
        yield ServerSentEvent(raw_data=page)


@router.get("/requests/{request_id}")
async def show_request(request: Request, request_id: str) -> HTMLResponse:
    """The log lines of a request."""
    lines = memory.lines_of(request_id)
    if not lines:
        raise Problem(HTTPStatus.NOT_FOUND, "No line of this request is kept, or none any more.")
    return service.templates.TemplateResponse(
        request, "live/request.html", {"request_id": request_id, "lines": lines}
    )
