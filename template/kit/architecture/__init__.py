"""Rules that keep the service's parts apart: each yields its violations, by file and line.

They check the source, and the names that the service registers when it is imported.
"""

from kit.architecture import _imports as imports
from kit.architecture import _names as names

RULES = (
    imports.core_imports_extensions,
    imports.extensions_import_each_other,
    imports.service_imports_tests,
    imports.modules_import_each_other,
    imports.kit_imports_service,
    imports.private_modules_are_imported,
    imports.rooms_import_upwards,
    names.unknown_parts,
    names.tables_without_name,
    names.tasks_without_name,
    names.schedules_without_name,
    names.schedules_elsewhere,
    names.settings_without_name,
    names.colliding_routes,
    names.colliding_admin_views,
    names.colliding_tags,
    names.colliding_tasks,
    names.colliding_schedules,
)
