"""The service with routes that do what is traced; run as a module, it serves them."""

import httpx
from sqlalchemy import literal
from sqlmodel import select, text

from app.core.dependencies import SessionDep
from app.extensions.telemetry.tests.traced_tasks import broken
from app.main import app
from kit.commands import serve
from kit.messages import publish
from kit.queue import enqueue


async def work(session: SessionDep, value: str, call: str = "") -> None:
    """Query, publish a message whose handlers query and send a task, and call another server."""
    await session.exec(select(literal(value)))
    # As an owner should not write it.
    await session.execute(text("SELECT 'LITERAL-1' AS \"a\", 'it''s LITERAL-2', E'\\' LITERAL-3'"))
    await publish(session, "telemetry.tested", {"value": value})
    await session.commit()
    if call:
        async with httpx.AsyncClient() as client:
            await client.get(f"{call}/called", params={"key": value})


async def fail(session: SessionDep, value: str) -> None:
    """Fail in the database, quoting the value."""
    await session.execute(text("SELECT CAST(:value AS integer)"), {"value": value})


async def crash(value: str) -> None:
    """Fail by an error that nothing handles."""
    raise LookupError(f"nothing there\n{value}")


async def send_broken(value: str) -> None:
    """Send a task that fails."""
    await enqueue(broken, value)


if __name__ == "__main__":
    serve.APPLICATION = "app.extensions.telemetry.tests.traced_service:app"
    serve.main([])
else:
    app.post("/traced/{number}")(work)
    app.post("/failing")(fail)
    app.post("/crashing")(crash)
    app.post("/broken-task")(send_broken)
