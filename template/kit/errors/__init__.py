"""Errors: one document for all of them (RFC 9457), and the cause behind an exception."""

from kit.errors._causes import first_line, is_outage
from kit.errors._problems import (
    RETRY_AFTER_SECONDS,
    Problem,
    UnhandledErrorMiddleware,
    document_problems,
    logged_problem,
    problem_for,
    problem_response,
    setup_errors,
)
