"""The kit's tables: administrators, API tokens, the audit trail."""

import kit.conventions
import kit.database  # protects every table
from kit.models._admin_user import AdminUser
from kit.models._api_token import ApiToken
from kit.models._audit_entry import AuditAction, AuditEntry
