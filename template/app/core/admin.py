"""The admin at /admin: SQLAdmin on `sync_engine`, with the views in `app/admin/`.

Views of an enabled extension come from its `setup_admin(admin)`. Templates are searched in the
extensions' `templates/`, then in the service's, then in the kit's and SQLAdmin's own.
"""

from fastapi import FastAPI

from app.core.database import sync_engine
from kit.admin import ServiceAdmin, admin_session_maker
from kit.admin import setup_admin as setup_kit_admin

admin_session_maker.configure(bind=sync_engine)


def setup_admin(app: FastAPI) -> ServiceAdmin:
    """Mount the admin, with all its views, at /admin; your own changes of it go here."""
    return setup_kit_admin(app, "app.admin")
