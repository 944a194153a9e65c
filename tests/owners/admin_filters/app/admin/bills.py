"""Bills in the admin."""

from typing import ClassVar

from sqladmin import ModelView
from sqladmin.filters import (
    BooleanFilter,
    ForeignKeyFilter,
    OperationColumnFilter,
    StaticValuesFilter,
)

from app.admin.filters import DateRangeFilter, EnumFilterBase
from app.models.bill import Bill, BillState, Payer


class BillStateFilter(EnumFilterBase):
    """By the state of a bill."""

    enum = BillState


class PayerAdmin(ModelView, model=Payer):
    """Payers."""

    column_list = ("name", "town")


class BillAdmin(ModelView, model=Bill):
    """Bills."""

    column_list = ("number", "is_paid", "state", "channel", "total", "payer", "payer.town")
    column_searchable_list = ("number", "payer.name")
    column_sortable_list = ("number", "payer.name")
    column_filters: ClassVar = [
        BooleanFilter("is_paid"),
        BillStateFilter("state"),
        StaticValuesFilter("channel", [("web", "Web"), ("post", "Post")]),
        OperationColumnFilter("total"),
        DateRangeFilter("issued_on"),
        ForeignKeyFilter("payer_id", "name", foreign_model=Payer),
    ]
