"""The service's tasks: every module of this folder and below it, and those of enabled extensions.

A new file needs no registration. `schedules.py` is imported by beat alone, which reports it when it
is broken.
"""

from kit.discovery import import_modules
from kit.extensions import load_extensions

import_modules(__name__, but=("schedules",))
load_extensions("tasks")
