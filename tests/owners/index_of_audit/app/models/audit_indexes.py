"""Indexes of the service's own on tables of the kit."""

from sqlalchemy import Index, func
from sqlmodel import col

from kit.models import ApiToken, AuditEntry

Index("ix_audit_entry_client", col(AuditEntry.client))
Index("ix_api_token_lower_name", func.lower(col(ApiToken.name)))
