"""The kit's tables: administrators, API tokens, the audit trail."""

import kit.database  # noqa: F401 (names constraints and protects tables)
from kit.models._admin_user import (
    AdminUser,
)
from kit.models._api_token import (
    ApiToken,
)
from kit.models._audit_entry import (
    AuditAction,
    AuditEntry,
)

__all__ = [
    "AdminUser",
    "ApiToken",
    "AuditAction",
    "AuditEntry",
]
