"""Routes of wallets."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from fastapi import APIRouter
from pydantic import BaseModel
from sqlalchemy.exc import DBAPIError
from sqlmodel.ext.asyncio.session import AsyncSession

from app.core.dependencies import ReadSessionDep, SessionDep
from app.models.wallet import Wallet
from kit.errors import Problem

router = APIRouter(prefix="/wallets", tags=["Wallets"])

Result = TypeVar("Result")
ATTEMPTS = 30


class NewWallet(BaseModel):
    """What a client sends."""

    balance: int


async def serializable(
    session: AsyncSession, work: Callable[[AsyncSession], Awaitable[Result]]
) -> Result:
    """Do work in a serializable transaction, again where another one was in its way."""
    for attempt in range(ATTEMPTS):
        await session.connection(execution_options={"isolation_level": "SERIALIZABLE"})
        try:
            result = await work(session)
            await session.commit()
        except DBAPIError as error:
            await session.rollback()
            if getattr(error.orig, "pgcode", None) != "40001" or attempt == ATTEMPTS - 1:
                raise
        else:
            return result
    raise AssertionError


@router.post("", status_code=201)
async def create_wallet(new: NewWallet, session: SessionDep) -> Wallet:
    """Create a wallet."""
    wallet = Wallet(balance=new.balance)
    session.add(wallet)
    await session.commit()
    return wallet


@router.get("/{wallet_id}")
async def read_wallet(wallet_id: int, session: ReadSessionDep) -> Wallet:
    """Read a wallet."""
    return await session.get_one(Wallet, wallet_id)


@router.post("/{wallet_id}/spend")
async def spend(wallet_id: int, session: SessionDep) -> dict[str, int]:
    """Spend one."""

    async def work(session: AsyncSession) -> int:
        wallet = await session.get_one(Wallet, wallet_id)
        if wallet.balance < 1:
            raise Problem(409, "The wallet is empty.")
        wallet.balance -= 1
        return wallet.balance

    return {"balance": await serializable(session, work)}
