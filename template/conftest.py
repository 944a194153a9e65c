"""Lends the fixtures of `tests/conftest.py` to the extensions' tests, which stand outside of it."""

from tests.conftest import *  # noqa: F403 (fixtures, which pytest finds by their names)
# --- Yours ---
