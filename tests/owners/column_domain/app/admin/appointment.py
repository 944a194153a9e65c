"""Appointments in the admin."""

from sqladmin import ModelView

from app.models.appointment import Appointment


class AppointmentAdmin(ModelView, model=Appointment):
    """Appointments."""

    column_list = ("id", "number", "mail", "during")
    column_searchable_list = ("mail",)
    column_sortable_list = ("during",)
