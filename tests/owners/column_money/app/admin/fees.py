"""Fees in the admin."""

from sqladmin import ModelView
from sqladmin.filters import OperationColumnFilter

from app.models.fee import Fee


class FeeAdmin(ModelView, model=Fee):
    """Fees."""

    column_list = ("id", "amount", "rate")
    column_sortable_list = ("amount", "rate")
    column_filters = (OperationColumnFilter("amount"),)
