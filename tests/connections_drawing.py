"""The drawing of Redis connections, `docs/images/redis-connections.svg`, read for the tests.

Each connection in it is a square whose attributes say whose it is, from where and for what.
"""

import json
import re
import subprocess
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

DRAWING = Path(__file__).resolve().parents[1] / "docs" / "images" / "redis-connections.svg"

PROGRAM = """
import json

from app.core.config import Settings
from kit.connections import (
    COMMAND_CONNECTIONS, LISTENING_CONNECTIONS, redis_allowance, redis_budget)

settings = Settings.model_construct()
budget = redis_budget(settings)
processes = {
    role: {"pool": settings.REDIS_POOL_SIZE, "waiting": LISTENING_CONNECTIONS[role],
           "at most": redis_allowance(settings, role)}
    for role in ("api", "worker", "beat", "flower")
}
together = {"process": budget.total - COMMAND_CONNECTIONS, "command": COMMAND_CONNECTIONS,
            "free": budget.limit - budget.total}
print(json.dumps({"processes": processes, "together": together}))
"""


def computed(python: Sequence[str], folder: Path) -> dict[str, Any]:
    """What the service's own code makes of the default settings, as `drawn` reads the drawing.

    Args:
        python: the command of a Python that has the service's dependencies.
        folder: the service.
    """
    done = subprocess.run(
        [*python, "-c", PROGRAM],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "HOME": "/", "LANG": "C.UTF-8"},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def drawn() -> dict[str, Any]:
    """Squares for each process and all together, and the bound that stands at each process."""
    squares = Counter((each["process"], each["kind"]) for each in _squares("data-process"))
    bounds = iter(re.findall(r">(\d+) at most<", DRAWING.read_text(encoding="utf-8")))
    processes = {
        role: {
            "pool": squares[role, "pool"],
            "waiting": squares[role, "waiting"],
            "at most": int(next(bounds)),
        }
        for role in dict.fromkeys(each["process"] for each in _squares("data-process"))
    }
    together = Counter(each["together"] for each in _squares("data-together"))
    return {"processes": processes, "together": dict(together)}


def waiting_commands() -> dict[str, list[str]]:
    """For each process the commands, in lower case, with which its connections wait."""
    waiting: dict[str, list[str]] = {}
    for each in _squares("data-process"):
        commands = waiting.setdefault(each["process"], [])
        if "command" in each:
            commands.append(each["command"])
    return waiting


def sentences() -> list[str]:
    """The drawing's name, for those who cannot see it, and the line below its sum."""
    tree = ET.parse(DRAWING)  # noqa: S314 (our own file)
    texts = [each.text or "" for each in tree.iter()]
    return [tree.getroot().attrib["aria-label"], *(each for each in texts if " of the 30" in each)]


def expected_sentences(found: dict[str, Any]) -> list[str]:
    """What they have to say, by what `computed` gave."""
    bounds = {role: each["at most"] for role, each in found["processes"].items()}
    processes, command, free = (found["together"][kind] for kind in ("process", "command", "free"))
    total, limit = processes + command, processes + command + free
    named = (
        "Where a process's Redis connections come from, and their upper bounds: "
        f"API {bounds['api']}, worker {bounds['worker']}, beat {bounds['beat']}, "
        f"Flower {bounds['flower']}, {command} for commands, together {total} of {limit}"
    )
    summed = f"{processes} of the processes and {command} for commands: {total} of the {limit} "
    return [named, f"{summed}that Redis Cloud's free plan allows"]


def _squares(attribute: str) -> list[dict[str, str]]:
    tree = ET.parse(DRAWING)  # noqa: S314 (our own file)
    return [
        {name.removeprefix("data-"): value for name, value in each.attrib.items()}
        for each in tree.iter()
        if attribute in each.attrib
    ]
