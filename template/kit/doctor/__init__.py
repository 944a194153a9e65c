"""Checks of settings, code, database and Redis; each finding has its remedy. `make doctor` runs it.

A check is a function in a module beside this one, registered by its id.
"""

from kit.doctor import _database, _redis, _service, _settings
from kit.doctor._checks import CHECKS, Check, Finding, Level, Result
from kit.doctor._examine import examine
from kit.doctor._report import summary_of, text_of
