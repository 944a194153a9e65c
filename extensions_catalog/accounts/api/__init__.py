"""Users of Supabase Auth and what this service keeps of them."""

from app.extensions.accounts import principals  # noqa: F401 (registers the provider)
from app.extensions.accounts.api.me import router

__all__ = ["router"]
