"""Runs at each Alembic command that touches the database or writes a revision."""

from kit.migrations import run_alembic

run_alembic()
