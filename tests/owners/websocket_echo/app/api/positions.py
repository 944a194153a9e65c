"""Positions, which vehicles report through a WebSocket."""

from collections.abc import Sequence

from fastapi import APIRouter, WebSocket
from sqlmodel import select

from app.core.dependencies import PrincipalDep, ReadSessionDep
from app.models.position import Position
from kit.database import open_session

router = APIRouter(prefix="/positions", tags=["Positions"])


@router.get("")
async def list_positions(session: ReadSessionDep) -> Sequence[Position]:
    """List the positions."""
    return (await session.exec(select(Position))).all()


@router.websocket("/report")
async def receive_positions(socket: WebSocket, principal: PrincipalDep) -> None:
    """Store each position, and answer with its number."""
    await socket.accept()
    async for name in socket.iter_text():
        async with open_session() as session:
            position = Position(name=f"{principal.name}: {name}")
            session.add(position)
            await session.commit()
        await socket.send_json({"id": position.id})
