"""Routes of coins."""

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel
from sqlalchemy import text
from sqlmodel import select

from app.core.dependencies import ReadSessionDep, SessionDep
from app.models.coin import Coin

router = APIRouter(prefix="/coins", tags=["Coins"])


class NewCoin(BaseModel):
    """What a client sends."""

    name: str
    worth: int


@router.post("", status_code=201)
async def create_coin(coin: NewCoin, session: SessionDep) -> dict[str, int]:
    """Make a coin."""
    statement = text("INSERT INTO coin (name, worth) VALUES (:name, :worth) RETURNING id")
    number = await session.scalar(statement, coin.model_dump())
    await session.commit()
    return {"id": number}


@router.get("")
async def read_coins(session: ReadSessionDep) -> list[dict[str, Any]]:
    """Read the coins."""
    rows = await session.execute(text("SELECT name, worth FROM coin ORDER BY id"))
    return [dict(row) for row in rows.mappings()]


@router.get("/models")
async def read_models(session: ReadSessionDep) -> Sequence[Coin]:
    """Read the coins as objects."""
    statement = text("SELECT id, name, worth FROM coin ORDER BY id")
    return (await session.scalars(select(Coin).from_statement(statement))).all()


@router.get("/sum")
async def read_sum(session: ReadSessionDep) -> dict[str, Any]:
    """Add up the coins."""
    statement = text("""
        -- no update
        WITH worths AS (SELECT worth FROM coin)
        SELECT sum(worth) AS total, 'update' AS updated FROM worths
    """)
    return dict((await session.execute(statement)).mappings().one())


@router.post("/misplaced")
async def create_misplaced(session: ReadSessionDep) -> None:
    """Write with the session that reads."""
    await session.execute(text("INSERT INTO coin (name, worth) VALUES ('groat', 4)"))


@router.post("/misplaced-in-with")
async def create_misplaced_in_with(session: ReadSessionDep) -> None:
    """Write with the session that reads, within a statement that begins as a read does."""
    await session.execute(
        text("""
            WITH new AS (INSERT INTO coin (name, worth) VALUES ('groat', 4) RETURNING id)
            SELECT id FROM new
        """)
    )
