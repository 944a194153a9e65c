"""Receipts that are written after the answer."""

from httpx import AsyncClient
from sqlmodel import select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.models.receipt import Receipt


async def test_a_receipt_is_stored_after_the_answer(
    client: AsyncClient, db_session: AsyncSession
) -> None:
    answer = await client.post("/api/receipts/later", json={"name": "tea"})

    assert answer.status_code == 202
    assert (await db_session.exec(select(Receipt.name))).all() == ["tea"]
