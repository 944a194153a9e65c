"""Balances over the API."""

from http import HTTPStatus
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from sqlmodel import select

from app.core.dependencies import ReadSessionDep, SessionDep
from app.models.balance import Balance
from app.models.debit import Debit
from kit.listing import ListQuery, Page, read_page

router = APIRouter(prefix="/balances", tags=["Balances"])


class BalanceQuery(ListQuery, model=Balance):
    """What the list of balances can be sorted by."""

    sort: Literal["customer_id", "-owed"] = "-owed"


@router.get("")
async def list_balances(
    session: ReadSessionDep, query: Annotated[BalanceQuery, Query()]
) -> Page[Balance]:
    """Balances, the highest first."""
    return await read_page(session, select(Balance), query, Balance)


@router.post("/{customer_id}/debits", status_code=HTTPStatus.CREATED)
async def debit_customer(session: SessionDep, customer_id: int, total: int) -> Debit:
    """Debit a customer."""
    debit = Debit.model_validate({"customer_id": customer_id, "total": total})
    session.add(debit)
    await session.commit()
    return debit
