"""The export of pallets."""

from httpx import AsyncClient
from sqlmodel.ext.asyncio.session import AsyncSession

from app.models.pallet import Pallet


async def test_the_export_has_every_pallet(client: AsyncClient, db_session: AsyncSession) -> None:
    db_session.add_all([Pallet(name=f"pallet {number}") for number in range(450)])
    await db_session.commit()

    answer = await client.get("/api/pallets/export")

    assert answer.status_code == 200
    assert [line.split(",")[1] for line in answer.text.splitlines()] == [
        f"pallet {number}" for number in range(450)
    ]
