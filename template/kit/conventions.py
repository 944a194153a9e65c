"""What holds for every model: finite numbers; for tables: names of constraints, row security.

`LocalTime` is the type of a time of day in a model of the API.

Supabase publishes the schema `public`: anyone with the project's URL and its public key can read
each table there that has no row level security. With it enabled and no policy written, only the
table's owner sees rows, and the owner is the user that this service connects as.

Source: https://supabase.com/docs/guides/database/postgres/row-level-security
"""

from collections.abc import Sequence
from datetime import time
from typing import Annotated

from pydantic import AfterValidator, BaseModel, WithJsonSchema
from sqlalchemy import DDL, Connection, MetaData, Table, event, text
from sqlalchemy.schema import CreateSchema
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


# Python's JSON takes NaN and 1e999 and a column of floats stores them, but no answer can say them
# in JSON. A model may allow them again in its own `model_config`.
BaseModel.model_config["allow_inf_nan"] = False
SQLModel.model_config["allow_inf_nan"] = False


def _without_zone(value: time) -> time:
    if value.tzinfo is not None:
        raise ValueError("send it without a time zone, as 08:30:00")
    return value


# The driver drops a zone in silence, and JSON Schema's format `time` demands one.
LocalTime = Annotated[
    time,
    AfterValidator(_without_zone),
    WithJsonSchema({"type": "string", "examples": ["08:30:00"]}),
]


TABLES_WITHOUT_ROW_SECURITY = """
    SELECT relation.oid::regclass::text AS name,
      CASE replace(relation.relkind::text, 'f', 'm')
        WHEN 'v' THEN format('ALTER VIEW %s SET (security_invoker = true);', relation.oid::regclass)
        WHEN 'm' THEN format('REVOKE ALL ON %s FROM anon, authenticated;', relation.oid::regclass)
        ELSE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY;', relation.oid::regclass)
      END AS remedy
    FROM pg_class AS relation
    WHERE relation.relnamespace = 'public'::regnamespace
      AND CASE replace(relation.relkind::text, 'f', 'm')
        WHEN 'v' THEN NOT EXISTS (
          SELECT FROM pg_options_to_table(relation.reloptions)
          WHERE option_name = 'security_invoker' AND option_value::boolean
        )
        WHEN 'm' THEN :as_published OR EXISTS (
          SELECT FROM pg_roles WHERE rolname IN ('anon', 'authenticated')
          AND has_any_column_privilege(pg_roles.oid, relation.oid, 'SELECT')
        )
        ELSE relation.relkind IN ('r', 'p') AND NOT relation.relrowsecurity
      END
      AND NOT EXISTS (
        SELECT FROM pg_depend
        WHERE classid = 'pg_class'::regclass AND objid = relation.oid AND deptype = 'e'
      )
    ORDER BY 1
"""
"""And views that read past it: one reads as its owner unless it says otherwise, and a materialised
or foreign one has none, so there Supabase's two roles must have no right to read it. Without those
of PostgreSQL extensions, which this service cannot alter."""

_ENABLE = DDL("ALTER TABLE %(fullname)s ENABLE ROW LEVEL SECURITY")  # type: ignore[no-untyped-call]


# On the class, so that it also covers `alembic_version`, whose metadata is Alembic's own.
@event.listens_for(Table, "after_create")
def _enable_after_create(table: Table, connection: Connection, **_options: object) -> None:
    connection.execute(_ENABLE.against(table))


@event.listens_for(MetaData, "before_create")
def _create_schemas(
    _metadata: MetaData, connection: Connection, tables: Sequence[Table], **_options: object
) -> None:
    for schema in sorted({table.schema for table in tables if table.schema}):
        connection.execute(CreateSchema(schema, if_not_exists=True))


def row_security_remedies(connection: Connection, *, as_published: bool = False) -> dict[str, str]:
    """The statement that covers each table and view of `public` that Supabase would publish.

    Args:
        connection: to the database.
        as_published: whether Supabase's two roles may read everything, though they are not there.
    """
    rows = connection.execute(text(TABLES_WITHOUT_ROW_SECURITY), {"as_published": as_published})
    return {row.name: row.remedy for row in rows}


def tables_without_row_security(connection: Connection) -> list[str]:
    """Names of the tables of the schema `public` that lack row level security, and such views."""
    return list(row_security_remedies(connection))
