"""Show which processes hold connections to Redis and PostgreSQL.

`python -m kit.commands.connections` ends with status 1 when a process holds more than it may, when
all together exceed the limit, or when the budget does. `--json` prints the same for programs.
"""

import argparse
import asyncio
import json
from collections.abc import Sequence
from dataclasses import asdict
from itertools import chain
from typing import Any

from kit.commands import run_command
from kit.connections import Census, Holder, count_postgres, count_redis
from kit.database import connect
from kit.process import start_local_services
from kit.redis import redis_client


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the connections; returns the exit status.

    Raises:
        RedisError: when Redis cannot be reached.
        StartupError: when the database cannot be.
    """
    parser = argparse.ArgumentParser(prog="python -m kit.commands.connections", description=__doc__)
    parser.add_argument("--json", action="store_true", help="for programs instead of people")
    options = parser.parse_args(arguments)
    start_local_services()
    censuses = {"Redis": count_redis(redis_client()), "PostgreSQL": asyncio.run(_count_postgres())}
    if options.json:
        print(json.dumps({name: as_json(each) for name, each in censuses.items()}, indent=2))
    else:
        print(as_table(censuses))
    return 1 if any(census.is_over for census in censuses.values()) else 0


def as_json(census: Census) -> dict[str, Any]:
    """Convert one server's connections to JSON values, for programs."""
    return {
        "in_use": census.in_use,
        "limit": census.plan.limit,
        "limit_name": census.plan.limit_name,
        "plan": {"total": census.plan.total, "sum": census.plan.spelled_out()},
        "over": census.is_over,
        "note": census.note or None,
        "holders": [asdict(holder) | {"over": holder.is_over} for holder in census.holders],
    }


def as_table(censuses: dict[str, Census]) -> str:
    """Format all servers' connections in aligned columns, for people."""
    tables = {
        name: [(name, "host", "process", "holds", "may hold"), *map(_row, census.holders)]
        for name, census in censuses.items()
    }
    widths = [max(map(len, column)) for column in zip(*chain(*tables.values()), strict=True)]
    blocks = []
    for name, census in censuses.items():
        table = [_aligned(row, widths) for row in tables[name]] if census.holders else [name]
        blocks.append("\n".join([*table, *_summary(census)]))
    return "\n\n".join(blocks)


def _row(holder: Holder) -> tuple[str, ...]:
    return (
        f"  {holder.role}",
        holder.host,
        "" if holder.pid is None else str(holder.pid),
        str(holder.connections),
        "" if holder.allowance is None else f"{holder.allowance}{' OVER' * holder.is_over}",
    )


def _aligned(row: tuple[str, ...], widths: list[int]) -> str:
    form = "{:<{}}  {:<{}}  {:>{}}  {:>{}}  {:<{}}"
    return form.format(*chain(*zip(row, widths, strict=True))).rstrip()


def _summary(census: Census) -> list[str]:
    in_use = f"  in use: {census.in_use} of {census.plan.limit_name} {census.plan.limit}"
    known = [] if census.in_use is None else [in_use + " OVER" * census.is_crowded]
    note = [f"  {census.note}"] if census.note else []
    plan = f"  plan: {census.plan.spelled_out()}{' OVER' * census.plan.is_exceeded}"
    return [*known, *note, plan]


async def _count_postgres() -> Census:
    async with connect() as connection:
        return await count_postgres(connection)


if __name__ == "__main__":
    run_command(main)
