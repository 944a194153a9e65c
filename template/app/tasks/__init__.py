"""The service's tasks: every module of this package, and the `tasks` of enabled extensions.

A new file needs no registration. `schedules.py` is left to beat, which is the one to report it
when it is broken.
"""

import importlib
import pkgutil

from app.core.extensions import load_extensions

for _module in pkgutil.iter_modules(__path__):
    if _module.name != "schedules":
        importlib.import_module(f"{__name__}.{_module.name}")

load_extensions("tasks")
