"""Orders over the API."""

from http import HTTPStatus

from fastapi import APIRouter
from sqlmodel import col, select

from app.core.celery import enqueue
from app.core.dependencies import ReadSessionDep, SessionDep
from app.models.order import Order, OrderInput
from app.tasks.packing import pack

router = APIRouter(prefix="/orders", tags=["Orders"])


@router.get("")
async def list_orders(session: ReadSessionDep) -> list[Order]:
    """The newest hundred orders."""
    statement = select(Order).order_by(col(Order.id).desc()).limit(100)
    return list(await session.exec(statement))


@router.post("", status_code=HTTPStatus.CREATED)
async def place_order(session: SessionDep, values: OrderInput) -> Order:
    """Place an order and have it packed."""
    order = Order.model_validate(values)
    session.add(order)
    await session.commit()
    await enqueue(pack, order.id)
    return order
