"""Routes of tickets."""

from collections.abc import Sequence

from fastapi import APIRouter
from sqlmodel import select

from app.core.dependencies import ReadSessionDep, SessionDep
from app.models.ticket import Priority, Ticket, TicketInput

router = APIRouter(prefix="/tickets", tags=["Tickets"])


@router.post("", status_code=201)
async def create_ticket(new: TicketInput, session: SessionDep) -> Ticket:
    """Store a ticket."""
    ticket = Ticket.model_validate(new)
    session.add(ticket)
    await session.commit()
    return ticket


@router.get("")
async def read_tickets(priority: Priority, session: ReadSessionDep) -> Sequence[Ticket]:
    """Read the tickets of a priority."""
    return (await session.exec(select(Ticket).where(Ticket.priority == priority).limit(100))).all()
