"""Routes of readings."""

from typing import Any

from fastapi import APIRouter, HTTPException
from sqlalchemy import insert
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlmodel import col, func, select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.core.dependencies import ReadSessionDep, SessionDep
from app.models.reading import Reading

router = APIRouter(prefix="/readings", tags=["Readings"])


def made(first: int, rows: int) -> list[dict[str, Any]]:
    """Make rows."""
    return [
        {"number": number, "meter": f"meter {number % 7}", "value": number / 4}
        for number in range(first, first + rows)
    ]


async def stored(session: AsyncSession) -> dict[str, int]:
    """Count the rows."""
    return {"stored": (await session.exec(select(func.count()).select_from(Reading))).one()}


@router.post("/add-all")
async def add_readings(rows: int, session: SessionDep) -> dict[str, int]:
    """Store rows as objects."""
    session.add_all([Reading(**row) for row in made(0, rows)])
    await session.commit()
    return await stored(session)


@router.post("/insert")
async def insert_readings(rows: int, session: SessionDep) -> dict[str, int]:
    """Store rows with the ORM's bulk insert."""
    await session.execute(insert(Reading), made(rows, rows))
    await session.commit()
    return await stored(session)


@router.post("/upsert")
async def upsert_readings(rows: int, session: SessionDep) -> dict[str, int]:
    """Store rows, or change those that are there."""
    statement = upsert(Reading)
    statement = statement.on_conflict_do_update(
        index_elements=["number"], set_={"value": statement.excluded.value}
    )
    await session.execute(statement, made(0, rows))
    await session.commit()
    return await stored(session)


@router.post("/returning")
async def insert_returning(rows: int, session: SessionDep) -> dict[str, int]:
    """Store rows and read their ids."""
    ids = await session.scalars(insert(Reading).returning(col(Reading.id)), made(2 * rows, rows))
    if len(set(ids)) != rows:
        raise HTTPException(500, "Each row has an id of its own.")
    await session.commit()
    return await stored(session)


@router.post("/values")
async def insert_values(rows: int, session: SessionDep) -> dict[str, int]:
    """Store rows with one statement."""
    await session.execute(insert(Reading).values(made(3 * rows, rows)))
    await session.commit()
    return await stored(session)


@router.get("")
async def count_readings(session: ReadSessionDep) -> dict[str, int]:
    """Count the rows."""
    return await stored(session)
