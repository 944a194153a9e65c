"""Puts the figures of a run into the documentation: `python -m bench.page bench.json`.

The document becomes `docs/performance.json`; from it come the table of `docs/performance.md` and
the drawings in `docs/images/`. The words around them are written by hand, and read again then.
"""

import json
import sys
from pathlib import Path
from typing import Any

from bench.drawing import goals_drawing, layers_drawing
from bench.measurement import Goal
from tests.repositories import REPOSITORY

PAGE = REPOSITORY / "docs" / "performance.md"
FIGURES = REPOSITORY / "docs" / "performance.json"
IMAGES = REPOSITORY / "docs" / "images"

BEGIN, END = "<!-- figures -->\n", "<!-- /figures -->"

Document = dict[str, Any]


def main(source: Path) -> None:
    """Write all that follows from a run."""
    document = json.loads(source.read_text(encoding="utf-8"))
    FIGURES.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    PAGE.write_text(before + BEGIN + table(document) + END + rest.partition(END)[2], "utf-8")
    for name, drawing in drawings(document).items():
        (IMAGES / name).write_text(drawing, encoding="utf-8")


def drawings(document: Document) -> dict[str, str]:
    """The drawings by their file names."""
    rows = document["rows"]
    return {
        "performance-goals.svg": goals_drawing([row for row in rows if row["goal"]]),
        "performance-layers.svg": layers_drawing(_layers(rows)),
    }


def table(document: Document) -> str:
    """Every row with a goal, in Markdown."""
    lines = [
        "| what | measured | floor, in the same run | ratio | goal | |",
        "|---|---|---|---|---|---|",
    ]
    for row in document["rows"]:
        if row["goal"]:
            floor = row["floor_is"]
            if row["floor_value"] is not None:
                floor += f": {figure(row['floor_value'], row['unit'])}"
            ratio = "" if row["ratio"] is None else f"{row['ratio']:.3g}"
            cells = (row["what"], figure(row["value"], row["unit"]), floor, ratio, goal(row))
            lines.append(f"| {' | '.join(cells)} | {'met' if row['is_met'] else 'missed'} |")
    return "\n".join(lines) + "\n"


def figure(value: float, unit: str) -> str:
    """A figure as a reader takes it in: three digits, or whole thousands."""
    return f"{value:,.0f} {unit}".strip() if value >= 100 else f"{value:.3g} {unit}".strip()  # noqa: PLR2004


def goal(row: dict[str, Any]) -> str:
    """The row's goal in words."""
    return Goal(**row["goal"]).text(row["unit"])


def _layers(rows: list[dict[str, Any]]) -> dict[str, float]:
    """What each layer of a read adds, from the outermost in."""
    taken = {row["what"]: row["value"] for row in rows if row["name"].startswith("layer-")}
    route = taken["a route, its log line"]
    driver, session = taken["asyncpg's fetchrow"], taken["a session's get"]
    added = {
        "FastAPI, middleware, log line": route,
        "response model": taken["a route, response model"] - route,
        "principal from a bearer token": taken["a route, principal"] - route,
        "a session for the request": taken["a route, session"] - route,
        "SQLModel and SQLAlchemy": session - driver,
        "asyncpg": driver,
    }
    return {name: max(value, 0.0) for name, value in added.items()}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
