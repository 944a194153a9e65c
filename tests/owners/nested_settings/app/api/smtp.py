"""The mail server that is configured."""

from fastapi import APIRouter

from app.core.config import settings

router = APIRouter(prefix="/smtp", tags=["Smtp"])


@router.get("")
async def read_smtp() -> dict[str, str | list[str]]:
    """Show where mails are handed in, and who gets them."""
    return {"host": settings.SMTP.HOST, "recipients": settings.SMTP.RECIPIENTS}
