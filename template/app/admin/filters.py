"""Filters for the admin's list pages, beside those in `sqladmin.filters`. Yours go here.

    class OrderStateFilter(EnumFilterBase):
        enum = OrderState

A view names them in `column_filters`: `[OrderStateFilter("state")]`. A filter of another kind
derives from `SimpleFilter`, with `choices` and `condition`.
"""

from kit.admin import DateRangeFilter, EnumFilterBase, IsSetFilter, SimpleFilter

__all__ = ["DateRangeFilter", "EnumFilterBase", "IsSetFilter", "SimpleFilter"]
