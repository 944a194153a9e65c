"""Routes of invoices."""

from datetime import date
from http import HTTPStatus
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import Field
from sqlalchemy.orm import selectinload
from sqlmodel import col, select

from app.core.dependencies import ReadSessionDep, SessionDep
from app.models.invoice import Invoice, InvoiceInput, InvoiceLine, InvoiceOutput, InvoiceStatus
from kit.listing import ListQuery, Page, read_page

router = APIRouter(prefix="/invoices", tags=["Invoices"])


class InvoiceQuery(ListQuery, model=Invoice):
    """What a list of invoices can be narrowed and sorted by."""

    sort: Literal["id", "-id", "due", "-due"] = "id"
    status: list[InvoiceStatus] = []
    due__ge: date | None = None
    due__lt: date | None = None
    number__contains: str | None = None
    limit: int = Field(20, ge=1, le=100)
    heavier_than: int | None = Field(None, ge=0, le=2**31 - 1, exclude=True)


@router.post("", status_code=HTTPStatus.CREATED)
async def create_invoice(new: InvoiceInput, session: SessionDep) -> dict[str, Any]:
    """Store an invoice."""
    invoice = Invoice.model_validate(new, update={"status": new.status.value})
    invoice.lines = [InvoiceLine(grams=grams) for grams in new.grams]
    session.add(invoice)
    await session.commit()
    return {"id": invoice.id}


@router.get("")
async def list_invoices(
    session: ReadSessionDep, query: Annotated[InvoiceQuery, Query()]
) -> Page[InvoiceOutput]:
    """List invoices, a page of them after the cursor `after`."""
    lines: Any = Invoice.lines
    statement = select(Invoice).options(selectinload(lines))
    if query.heavier_than is not None:
        statement = statement.where(lines.any(col(InvoiceLine.grams) > query.heavier_than))
    return await read_page(session, statement, query, InvoiceOutput)
