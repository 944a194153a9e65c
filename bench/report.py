"""The table and the JSON document."""

import json
import os
import platform
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.measurement import Row

HEADINGS = ("row", "what", "measured", "floor", "ratio", "goal", "met")


def table(rows: Sequence[Row]) -> str:
    """Aligned columns, to be read in a terminal."""
    lines = [HEADINGS, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADINGS))]
    padded = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]
    return "\n".join([padded[0], "  ".join("-" * width for width in widths), *padded[1:]])


def write_json(path: Path, rows: Sequence[Row], seconds: float, versions: dict[str, str]) -> None:
    """Write rows and circumstances; rows of an earlier run that this one did not take stay."""
    path.parent.mkdir(parents=True, exist_ok=True)
    earlier: list[dict[str, Any]] = []
    if path.exists():
        taken = {row.name for row in rows}
        earlier = [row for row in json.loads(path.read_text())["rows"] if row["name"] not in taken]
    document = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds),
        "machine": {
            "processors": os.cpu_count(),
            "load_average": [round(load, 1) for load in os.getloadavg()],
            "system": platform.system(),
            "python": platform.python_version(),
            "implementation": sys.implementation.name,
        },
        "versions": versions,
        "rows": [*earlier, *(row.document() for row in rows)],
    }
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _cells(row: Row) -> tuple[str, ...]:
    floor = "" if row.floor_value is None else f"{_figure(row.floor_value)} {row.unit}"
    return (
        row.name,
        row.what,
        f"{_figure(row.value)} {row.unit}",
        floor,
        "" if row.ratio is None else f"{row.ratio:.3g}",
        "" if row.goal is None else row.goal.text(row.unit),
        {None: "", True: "yes", False: "NO"}[row.is_met],
    )


def _figure(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"  # noqa: PLR2004
