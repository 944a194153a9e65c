"""Tracks of vehicles."""

from fastapi import APIRouter, WebSocket
from sqlmodel import func, select

from app.core.dependencies import ReadSessionDep

router = APIRouter(prefix="/tracks", tags=["Tracks"])


@router.websocket("/live")
async def track(socket: WebSocket, session: ReadSessionDep) -> None:
    """Answer each message with the time."""
    await socket.accept()
    async for _ in socket.iter_text():
        now = (await session.exec(select(func.now()))).one()
        await socket.send_text(f"{now}")
