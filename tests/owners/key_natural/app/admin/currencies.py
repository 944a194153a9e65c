"""Currencies in the admin."""

from sqladmin import ModelView

from app.models.currency import Currency, PriceTag


class CurrencyAdmin(ModelView, model=Currency):
    """Currencies."""

    column_list = ("code", "name")
    column_searchable_list = ("code",)
    column_sortable_list = ("code",)


class PriceTagAdmin(ModelView, model=PriceTag):
    """Prices."""

    column_list = ("id", "amount", "currency")
