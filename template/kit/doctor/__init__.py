"""Checks of settings, code, database and Redis; each finding has its remedy. `make doctor` runs it.

A check is a function in the module `_service`, registered by its id.
"""

from kit.doctor import _service
from kit.doctor._checks import CHECKS, Check, Finding, Level, Result, examine, summary_of, text_of
