"""Orders in the admin."""

from sqladmin import ModelView

from app.admin.filters import DateRangeFilter
from app.admin.views import short_time
from app.models.order import Order


class OrderAdmin(ModelView, model=Order):
    """Orders."""

    column_list = ("number", "quantity", "is_packed", "placed_at")
    column_searchable_list = ("number",)
    column_sortable_list = ("number", "placed_at")
    column_filters = (DateRangeFilter(Order.placed_at),)
    column_formatters = dict.fromkeys(("placed_at",), short_time)
