"""The rooms of the kit and the two rooms of a service, in `template/` as it stands.

The rules are the kit's own, which run in every service with what it is made of. Those that read
nothing but the source run here, where nothing of the service is installed.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.repositories import REPOSITORY

PROGRAM = """
import importlib, inspect, json, pathlib, sys, types

template = pathlib.Path.cwd()
sys.path.insert(0, str(template))
# What this imports has nothing to do with the source that is read.
settings = types.ModuleType("kit.settings")
settings.BASE_DIR, settings.StartupError = template, Exception
sys.modules["kit.settings"] = settings
package = types.ModuleType("kit.architecture")
package.__path__ = [str(template / "kit" / "architecture")]
sys.modules["kit.architecture"] = package

rules = importlib.import_module("kit.architecture._imports")
found = {
    name: list(rule())
    for name, rule in inspect.getmembers(rules, inspect.isgeneratorfunction)
    if not name.startswith("_")
}
print(json.dumps({"broken": found, "modules": sorted(rules.modules())}))
"""

RULES = {
    "core_imports_extensions",
    "extensions_import_each_other",
    "kit_imports_service",
    "modules_import_each_other",
    "private_modules_are_imported",
    "rooms_import_upwards",
    "service_imports_tests",
}


def read(template: Path) -> tuple[dict[str, list[str]], list[str]]:
    """What breaks each rule in a template, and which modules were read."""
    done = subprocess.run(
        [sys.executable, "-B", "-c", PROGRAM],
        cwd=template,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    said = json.loads(done.stdout)
    return said["broken"], said["modules"]


@pytest.fixture(scope="module")
def here() -> tuple[dict[str, list[str]], list[str]]:
    return read(REPOSITORY / "template")


@pytest.mark.parametrize("rule", sorted(RULES))
def test_nothing_breaks(here: tuple[dict[str, list[str]], list[str]], rule: str) -> None:
    broken, _ = here
    assert broken[rule] == []


def test_all_rules_are_asked_of_all_modules(here: tuple[dict[str, list[str]], list[str]]) -> None:
    broken, modules = here
    assert set(broken) == RULES
    folders = ("app", "kit", "app/extensions/hotel", "app/extensions/hotel/tests")
    for folder in folders:
        paths = (REPOSITORY / "template" / folder).glob("[a-z]*.py")
        names = {f"{folder.replace('/', '.')}.{path.stem}" for path in paths}
        assert names
        assert names <= set(modules), folder
    assert len(modules) > 200


BROKEN = {
    "core_imports_extensions": ("app/main.py", "from app.extensions.hotel import bookings"),
    "extensions_import_each_other": (
        "app/extensions/mail/api/__init__.py",
        "from app.extensions.hotel import bookings",
    ),
    "kit_imports_service": ("kit/lifespan.py", "from app.core.config import settings as ours"),
    "modules_import_each_other": ("kit/redis/_pool.py", "import kit.redis._transport"),
    "private_modules_are_imported": ("app/main.py", "from kit.redis import _pool"),
    "rooms_import_upwards": ("kit/settings/_base.py", "import kit.redis"),
    "service_imports_tests": ("kit/lifespan.py", "def _test() -> None:\n    import kit.testing"),
}


def test_each_rule_is_broken_below() -> None:
    assert set(BROKEN) == RULES


@pytest.mark.parametrize("rule", BROKEN)
def test_a_line_that_breaks_it_is_found(tmp_path: Path, rule: str) -> None:
    """So that silence means something."""
    path, line = BROKEN[rule]
    template = tmp_path / "template"
    left_out = shutil.ignore_patterns("tests", "__pycache__", ".*")
    shutil.copytree(REPOSITORY / "template", template, ignore=left_out)
    text = (template / path).read_text(encoding="utf-8")
    (template / path).write_text(f"{text}\n\n{line}\n", encoding="utf-8")
    broken, _ = read(template)
    module = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    assert any(path in each or module in each for each in broken[rule])
