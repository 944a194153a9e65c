"""The database: sessions, connections outside the pool, names, row level security."""

from kit.conventions import TABLES_WITHOUT_ROW_SECURITY, tables_without_row_security
from kit.database._connect import connect, name_connections
from kit.database._rows import read_row, read_rows, write_row
from kit.database._sessions import (
    AsyncReadOnlySession,
    ReadOnlySession,
    ReadOnlyViolationError,
    SessionClosedError,
    open_read_session,
    open_session,
    refuse_further_use,
    request_session,
    stream_rows,
)
