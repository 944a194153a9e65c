"""The extension's tasks; the module of a new one is imported here."""

from app.extensions.accounts.tasks.retention import anonymise_unseen_profiles

__all__ = ["anonymise_unseen_profiles"]
