"""Invoices."""

from datetime import date
from enum import StrEnum

from sqlalchemy import Index
from sqlmodel import Field, Relationship, SQLModel


class InvoiceStatus(StrEnum):
    """Where an invoice stands. Stored as text, so that a new one needs no migration."""

    DRAFT = "draft"
    SENT = "sent"
    PAID = "paid"


class InvoiceInput(SQLModel):
    """What a client sends."""

    number: str = Field(min_length=1, max_length=20)
    status: InvoiceStatus = Field(default=InvoiceStatus.DRAFT, max_length=16)
    due: date | None = None
    grams: list[int] = Field([], max_length=100)


class Invoice(SQLModel, table=True):
    """An invoice."""

    __tablename__ = "invoice"
    __table_args__ = (Index(None, "due", "id"),)

    id: int | None = Field(default=None, primary_key=True)
    number: str = Field(max_length=20, unique=True)
    status: str = Field(max_length=16)
    due: date | None = None
    lines: list["InvoiceLine"] = Relationship(back_populates="invoice")


class InvoiceLine(SQLModel, table=True):
    """A line of an invoice."""

    __tablename__ = "invoice_line"

    id: int | None = Field(default=None, primary_key=True)
    invoice_id: int | None = Field(default=None, foreign_key="invoice.id", index=True)
    grams: int
    invoice: Invoice | None = Relationship(back_populates="lines")


class InvoiceLineOutput(SQLModel):
    """A line, as the API returns it."""

    grams: int


class InvoiceOutput(SQLModel):
    """An invoice, as the API returns it."""

    id: int
    number: str
    status: InvoiceStatus
    due: date | None
    lines: list[InvoiceLineOutput]
