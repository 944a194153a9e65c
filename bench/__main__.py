"""`python -m bench`: measure, print the table, write the JSON."""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

from bench import (
    copying,
    crowding,
    distance,
    endpoints,
    importing,
    layers,
    tasks,
    testing,
)
from bench.measurement import Row
from bench.report import table, write_json
from bench.workshop import Workshop

PARTS: dict[str, Callable[[Workshop], list[Row]]] = {
    "endpoints": endpoints.measure,
    "layers": layers.measure,
    "distance": distance.measure,
    "crowding": crowding.measure,
    "importing": importing.measure,
    "tasks": tasks.measure,
    "copying": copying.measure,
    "testing": testing.measure,
}

VERSIONS = ("fastapi", "starlette", "uvicorn", "sqlmodel", "sqlalchemy", "asyncpg", "celery")


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--row", action="append", choices=PARTS, help="one part; all otherwise")
    parser.add_argument("--json", type=Path, default=Path("bench.json"), help="where results go")
    options = parser.parse_args()
    started = time.monotonic()
    rows: list[Row] = []
    with Workshop() as workshop:
        versions = workshop.project.versions(*VERSIONS)
        for part in options.row or PARTS:
            begun = time.monotonic()
            taken = PARTS[part](workshop)
            print(f"{part}: {time.monotonic() - begun:.0f} s", flush=True)
            rows += taken
            # After each part: a later one that fails costs nothing of what was measured.
            write_json(options.json, rows, time.monotonic() - started, versions)
    print(table(rows))


if __name__ == "__main__":
    main()
