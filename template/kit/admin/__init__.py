"""The admin: log-in, audit trail, guards, filters, and the views of the kit's tables."""

from kit.admin._audit import admin_session_maker
from kit.admin._authentication import ADMINISTRATORS, AdminDep, require_admin
from kit.admin._lists import (
    DateRangeFilter,
    EnumFilterBase,
    IsSetFilter,
    SimpleFilter,
    exact_time,
    short_time,
)
from kit.admin._setup import (
    ADMIN_PATH,
    AdminUserAdmin,
    ApiTokenAdmin,
    AuditEntryAdmin,
    ServiceAdmin,
    chosen_keys,
    model_views,
    register_views,
    return_to_list,
    setup_admin,
)
