"""Users of Supabase Auth, and their profiles in this service."""

from app.extensions.accounts import principals  # noqa: F401 (registers the provider)
from app.extensions.accounts.api.me import router

__all__ = ["router"]
