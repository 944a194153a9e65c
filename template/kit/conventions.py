"""Naming convention of constraints, for every table that is declared after this import."""

from sqlmodel import SQLModel

# Has to be set before the first table is declared: SQLAlchemy names a constraint when it attaches
# it to its table. Without names, Alembic cannot drop or alter a constraint later.
NAMING_CONVENTION = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}

SQLModel.metadata.naming_convention = NAMING_CONVENTION
