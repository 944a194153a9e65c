"""Sightings in the admin."""

from sqladmin import ModelView

from app.admin.filters import DateRangeFilter
from app.admin.views import exact_time
from app.models.sighting import Sighting


class SightingAdmin(ModelView, model=Sighting):
    """Sightings."""

    column_list = ("bird", "seen_at", "noted_at", "stored_at")
    column_sortable_list = ("seen_at", "noted_at")
    column_filters = (DateRangeFilter(Sighting.seen_at), DateRangeFilter(Sighting.noted_at))
    column_formatters = dict.fromkeys(("seen_at", "stored_at"), exact_time)
