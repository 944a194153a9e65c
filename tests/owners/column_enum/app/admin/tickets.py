"""Tickets in the admin."""

from sqladmin import ModelView

from app.admin.filters import EnumFilterBase
from app.models.ticket import Outcome, Priority, Ticket


class PriorityFilter(EnumFilterBase):
    """By priority."""

    enum = Priority


class OutcomeFilter(EnumFilterBase):
    """By outcome."""

    enum = Outcome


class TicketAdmin(ModelView, model=Ticket):
    """Tickets."""

    column_list = ("id", "priority", "mood", "outcome")
    column_sortable_list = ("priority", "outcome")
    column_searchable_list = ("priority",)
    column_filters = (PriorityFilter(Ticket.priority), OutcomeFilter(Ticket.outcome))
