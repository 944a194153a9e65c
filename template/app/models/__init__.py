"""The service's tables: every module of this folder and below it is imported by itself."""

import kit.models  # noqa: F401 (names constraints and protects tables)
from kit.discovery import import_modules

import_modules(__name__)
