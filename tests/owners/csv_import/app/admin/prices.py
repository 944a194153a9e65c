"""Price lists in the admin."""

from typing import Any

from sqladmin import ModelView
from sqlalchemy import Select
from sqlmodel import col, select
from starlette.requests import Request

from app.models.price import Price, PriceLine, PriceList


class PriceAdmin(ModelView, model=Price):
    """Prices."""

    column_list = ("article", "amount")
    column_searchable_list = ("article",)


class PriceListAdmin(ModelView, model=PriceList):
    """Lists that were sent; deleting one deletes its lines, and no price."""

    column_list = ("id", "name", "lines")
    can_create = can_edit = False


class PriceLineAdmin(ModelView, model=PriceLine):
    """Lines with a mistake."""

    name = "Line with a mistake"
    name_plural = "Lines with a mistake"
    column_list = ("list_id", "number", "text", "mistake")
    column_searchable_list = ("text", "mistake")
    can_create = can_edit = False

    def list_query(self, request: Request) -> Select[Any]:
        """Leave out those that wait for their import."""
        return select(PriceLine).where(col(PriceLine.mistake).is_not(None))
