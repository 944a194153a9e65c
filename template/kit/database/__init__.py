"""The database: sessions, connections outside the pool, names, row level security.

Importing it protects every table that is created afterwards.
"""

<<<<<<< HEAD
from kit.database._connect import connect, name_connections
from kit.database._row_security import tables_without_row_security
from kit.database._sessions import (
    AsyncReadOnlySession,
    ReadOnlySession,
    ReadOnlyViolationError,
    request_session,
)
=======
from kit.database._application_name import name_connections
from kit.database._connect import connect
from kit.database._read_only import AsyncReadOnlySession, ReadOnlySession, ReadOnlyViolationError
from kit.database._request_session import request_session
from kit.database._row_security import TABLES_WITHOUT_ROW_SECURITY, tables_without_row_security
>>>>>>> main
