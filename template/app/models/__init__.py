"""The service's tables: every module of this folder is imported, none needs registration."""

from importlib import import_module
from pathlib import Path

from sqlmodel import SQLModel

import app.core.row_security  # noqa: F401 (protects every table that is created)

# Has to be set before the first table is declared: SQLAlchemy names a constraint when it attaches
# it to its table. Without names, Alembic cannot drop or alter a constraint later.
SQLModel.metadata.naming_convention = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}

for _module in sorted(Path(__file__).parent.glob("*.py")):
    if _module.stem != "__init__":
        import_module(f"{__name__}.{_module.stem}")
