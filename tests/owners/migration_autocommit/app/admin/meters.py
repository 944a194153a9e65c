"""Meters in the admin."""

from sqladmin import ModelView

from app.models.meter import Meter


class MeterAdmin(ModelView, model=Meter):
    """Meters."""

    column_list = ("id", "serial")
