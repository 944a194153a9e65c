"""Views of the extension's tables."""

from typing import ClassVar

from sqladmin import ModelView

from app.extensions.accounts.models import AccountsProfile
from kit.admin import DateRangeFilter, IsSetFilter, short_time


class AccountsProfileAdmin(ModelView, model=AccountsProfile):
    """Profiles. Users are invited, banned and deleted in Supabase's dashboard."""

    name = "Profile"
    name_plural = "Profiles"
    icon = "fa-solid fa-user"
    category = "Accounts"
    can_create = False
    column_list: ClassVar = ["email", "display_name", "last_seen_at", "created_at"]
    column_details_list: ClassVar = [*column_list, "id"]
    column_labels: ClassVar = {"created_at": "Since", "last_seen_at": "Last seen", "id": "User id"}
    column_searchable_list: ClassVar = ["email", "display_name"]
    column_sortable_list: ClassVar = ["email", "display_name", "last_seen_at", "created_at"]
    column_default_sort: ClassVar = ("last_seen_at", True)
    column_filters: ClassVar = [
        DateRangeFilter(AccountsProfile.last_seen_at, title="Last seen"),
        IsSetFilter(AccountsProfile.email, title="Has an address"),
    ]
    column_formatters: ClassVar = dict.fromkeys(("created_at", "last_seen_at"), short_time)
    column_formatters_detail = column_formatters
    form_columns: ClassVar = ["display_name"]
