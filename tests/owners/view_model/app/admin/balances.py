"""Debits and balances in the admin."""

from sqladmin import ModelView

from app.models.balance import Balance
from app.models.debit import Debit


class DebitAdmin(ModelView, model=Debit):
    """Debits."""

    column_list = ("id", "customer_id", "total")


class BalanceAdmin(ModelView, model=Balance):
    """Balances, of a view."""

    column_list = ("customer_id", "owed")
    column_sortable_list = ("owed",)
    can_create = can_edit = can_delete = False
