"""Pages below `/hotel`."""

import secrets
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse

from app.core.dependencies import ReadSessionDep
from app.core.templates import templates
from app.extensions.hotel import dates
from app.extensions.hotel.occupancy import nights_from, read_occupancy

page_router = APIRouter(include_in_schema=False)


@page_router.get("/occupancy")
async def show_occupancy(
    request: Request, session: ReadSessionDep, after: Annotated[str, Query(max_length=50)] = ""
) -> HTMLResponse:
    """Show which rooms are taken in the coming nights; without guests, since the page is public."""
    first_night = dates.today()
    rooms, has_more = await read_occupancy(session, first_night, after=after)
    return templates.TemplateResponse(
        request,
        "hotel/occupancy.html",
        {
            "nights": nights_from(first_night),
            "rooms": rooms,
            "has_more": has_more,
            # The page's own styles are the only inline ones that its policy allows.
            "style_nonce": secrets.token_urlsafe(16),
        },
    )
