"""Routes that answer with other things than JSON."""

from typing import Annotated

from fastapi import APIRouter, Cookie, Response
from fastapi.responses import FileResponse, HTMLResponse, PlainTextResponse, RedirectResponse

from app.core.config import BASE_DIR

router = APIRouter(prefix="/leaflets", tags=["Leaflets"])


@router.get("/page", response_class=HTMLResponse)
async def read_page() -> str:
    """Answer with HTML."""
    return "<h1>Leaflets</h1>"


@router.get("/redirect")
async def read_redirect() -> RedirectResponse:
    """Send the client elsewhere."""
    return RedirectResponse("/api/leaflets/page")


@router.get("/file")
async def read_file() -> FileResponse:
    """Answer with a file."""
    path = BASE_DIR / "app" / "media" / "robots.txt"
    return FileResponse(path, filename="robots.txt")


@router.get("/plain", response_class=PlainTextResponse)
async def read_plain() -> str:
    """Answer with text."""
    return "plain"


@router.get("/cookie")
async def read_cookie(response: Response, visits: Annotated[int, Cookie()] = 0) -> dict[str, int]:
    """Count visits."""
    response.set_cookie("visits", str(visits + 1))
    return {"visits": visits + 1}
