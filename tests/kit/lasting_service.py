"""The service with streams, WebSockets and notes: `python -m kit.tests.lasting_service`."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator
from pathlib import Path
from typing import Any, cast

from fastapi import APIRouter, BackgroundTasks, WebSocket
from fastapi.responses import StreamingResponse
from fastapi.sse import EventSourceResponse
from sqlalchemy import literal
from sqlmodel import Session, col, func, select

from app.api import api_router
from app.core.dependencies import PrincipalDep, ReadSessionDep, SessionDep
from kit.commands import serve
from kit.database import open_read_session, open_session, stream_rows
from kit.models import AuditAction, AuditEntry
from kit.places import service
from kit.security import create_api_token

ROW_BYTES = 20_000
PAGE_BYTES = 4096

router = APIRouter()


@router.post("/prepare")
async def prepare(session: SessionDep, rows: int = 0) -> str:
    """Make the rows, and a token."""
    session.add_all(
        [
            AuditEntry(action=AuditAction.ACTION, actor="stream", details={"text": "x" * ROW_BYTES})
            for _ in range(rows)
        ]
    )
    token = await session.run_sync(lambda sync: create_api_token(cast("Session", sync), "lasting"))
    await session.commit()
    return token


@router.get("/stream")
async def stream() -> StreamingResponse:
    """Send the rows, a few at a time."""

    async def lines() -> AsyncIterator[str]:
        statement = select(AuditEntry).where(col(AuditEntry.actor) == "stream")
        async for entry in stream_rows(statement, batch=5):
            yield f"{entry.model_dump_json()}\n"

    return StreamingResponse(lines(), media_type="application/x-ndjson")


@router.get("/wrong-stream")
async def stream_wrongly(session: SessionDep) -> StreamingResponse:
    """Read with the request's session after it is closed."""

    async def lines() -> AsyncIterator[str]:
        yield f"{await session.scalar(select(literal(1)))}\n"

    return StreamingResponse(lines())


@router.get("/wrong-task")
async def note_wrongly(session: ReadSessionDep, tasks: BackgroundTasks) -> None:
    """Read with the request's session after the answer."""
    await session.scalar(select(literal(1)))
    tasks.add_task(session.scalar, select(literal(1)))


@router.get("/count")
async def count(session: ReadSessionDep) -> int:
    """Read from the database."""
    return (await session.exec(select(func.count()).select_from(AuditEntry))).one()


@router.post("/notes")
async def note(session: SessionDep, text: str) -> None:
    """Store a note."""
    session.add(AuditEntry(action=AuditAction.ACTION, actor=text))
    await session.commit()


@router.post("/sync-notes")
def note_in_thread(text: str) -> None:
    """Store a note as the admin and tasks store theirs."""
    with service.sync_session_maker.begin() as session:
        session.add(AuditEntry(action=AuditAction.ACTION, actor=text))


@router.get("/notes")
async def notes(session: ReadSessionDep) -> list[str]:
    """The notes that are stored."""
    return [*(await session.exec(select(AuditEntry.actor))).all()]


@router.get("/events", response_class=EventSourceResponse)
async def send_events() -> AsyncIterable[int]:
    """Send the number of rows, ten times a second."""
    while True:
        async with open_read_session() as session:
            number = (await session.exec(select(func.count()).select_from(AuditEntry))).one()
        yield number
        await asyncio.sleep(0.1)


@router.get("/held")
def held() -> dict[str, int]:
    """What this process holds: connections of the pool, and bytes of memory."""
    pool: Any = service.engine.pool
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return {"connections": pool.checkedout(), "bytes": pages * PAGE_BYTES}


@router.websocket("/echo")
async def echo(socket: WebSocket, principal: PrincipalDep) -> None:
    """Answer each message with the caller's name and the number of rows, stored with it."""
    await socket.accept()
    async for message in socket.iter_text():
        async with open_session() as session:
            session.add(AuditEntry(action=AuditAction.ACTION, actor=message))
            await session.commit()
        await socket.send_text(f"{principal.name}: {message}")


if __name__ == "__main__":
    serve.APPLICATION = "kit.tests.lasting_service:app"
    serve.main([])
else:
    api_router.include_router(router, prefix="/lasting")
    from app.main import app  # noqa: F401 (made with the routes above)
