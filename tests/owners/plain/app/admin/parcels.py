"""Parcels in the admin."""

from sqladmin import ModelView

from app.models.parcel import Parcel


class ParcelAdmin(ModelView, model=Parcel):
    """Parcels."""

    column_list = ("id", "grams")
    column_sortable_list = ("id", "grams")
