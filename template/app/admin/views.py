"""The admin's views. Each `ModelView` or `BaseView` that is defined or imported here is shown.

    class OrderAdmin(ModelView, model=Order):
        column_list = ("number", "placed_at")
        column_formatters = {"placed_at": short_time}

So is each one in another module of this folder. The kit's views, of administrators, API tokens and
the audit trail, are shown too, unless one of yours shows the same table.
"""

from kit.admin import exact_time, short_time

__all__ = ["exact_time", "short_time"]
