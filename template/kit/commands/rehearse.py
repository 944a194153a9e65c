"""Raise the load on a copy of the service until a limit ends: `make rehearse`.

The copy has an embedded PostgreSQL and Valkey of its own, filled as `make seed` does, behind links
that are as far away as the plans' servers and hold it to their limits. It is asked for every route
of the API that reads, and for those that `--route` adds, while schedules and tasks run. Printed is
which limit ends first, at what rate, and which setting or plan moves it.
"""

import argparse
import asyncio
import json
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING

from kit.commands import run_command
from kit.settings import StartupError, settings

if TYPE_CHECKING:
    from kit.rehearsal import Report


def main(arguments: Sequence[str] | None = None) -> int:
    """Rehearse the service; returns the exit status.

    Raises:
        StartupError: when it cannot be done; the message says why.
    """
    if not settings.is_local:
        raise StartupError(
            f"ENVIRONMENT is {settings.ENVIRONMENT}, and a rehearsal takes all that its machine "
            "has. Run it on a machine for development, with ENVIRONMENT=local."
        )
    import uvloop  # noqa: PLC0415 (nothing that the image lacks is imported before)

    from kit.rehearsal import Plan, parse_route, rehearse  # noqa: PLC0415

    parser = argparse.ArgumentParser(prog="python -m kit.commands.rehearse", description=__doc__)
    add, default = parser.add_argument, Plan()
    add("--route", action="append", default=[], metavar="'[TIMES] METHOD PATH [JSON]'")
    add("--only", action="store_true", help="ask for the given routes alone")
    add("--rows", type=int, default=200, help="made-up rows of each table; 200 if not given")
    add("--latency", type=float, default=1000 * default.latency, help="ms a round trip; 20")
    add("--redis-operations", type=float, default=default.redis_operations, help="a second; 100")
    add("--redis-megabytes", type=float, default=default.redis_megabytes, help="30")
    add("--pooler-connections", type=int, default=default.pooler_connections, help="15")
    add("--json", action="store_true", help="for programs instead of people")
    options = parser.parse_args(arguments)
    try:
        routes = [parse_route(each) for each in options.route]
    except ValueError as error:
        parser.error(f"--route: {error}")
    if options.only and not routes:
        parser.error("--only: name a --route too")
    plan = Plan(
        options.latency / 1000,
        options.redis_operations,
        options.redis_megabytes,
        options.pooler_connections,
    )
    say = partial(print, file=sys.stderr, flush=True)
    rehearsal = rehearse(settings, plan, routes, only=options.only, rows=options.rows, say=say)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        report = runner.run(rehearsal)
    print(json.dumps(_as_json(report), indent=2) if options.json else "\n".join(_lines(report)))
    return 0


def _as_json(report: "Report") -> dict[str, object]:
    rates = {each.key: None if math.isinf(each.rate) else each.rate for each in report.limits}
    found = report.found
    return asdict(report) | {
        "rates": rates,
        "predicted": report.predicted.key,
        "found": found.key if found else None,
    }


def _lines(report: "Report") -> Iterator[str]:
    rows = [("one request, alone", "took", "processor", "database", "operations", "worker")]
    for name, cost in report.routes.items():
        took, processor, database, worker = (
            f"{1000 * cost[key]:.1f} ms" for key in ("latency", "processor", "database", "worker")
        )
        rows.append((name, took, processor, database, f"{cost['operations']:.1f}", worker))
    yield ""
    yield from _table(rows, "<>>>>>")
    yield from report.notes
    rows = [("limit", "a request takes", "of", "ends at", "in use", "moved by")]
    for each in report.limits:
        used = report.in_use.get(each.key)
        if not math.isinf(each.rate):
            shown = "" if used is None else f"{used:.0%}"
            rows.append(
                (each.name, each.shown, each.of, f"{each.rate:.3g}/s", shown, each.moved_by)
            )
    yield ""
    yield from _table(rows, "<>>>><")
    opened = (f"{name} {text}" for name, text in report.connections.items())
    yield f"Connections at most: {', '.join(opened)}."
    yield from _verdict(report)


def _table(rows: Sequence[Sequence[str]], sides: str) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (
            f"{cell:{side}{width}}" for cell, side, width in zip(row, sides, widths, strict=True)
        )
        yield "  ".join(cells).rstrip()


def _verdict(report: "Report") -> Iterator[str]:
    first, found = report.predicted, report.found
    yield f"\nPredicted: {first.name} end first, at {first.rate:.3g} requests/s."
    if not report.has_ended:
        yield f"Measured: the service still follows at {report.rate:.3g} requests/s."
        return
    if found:
        share = f"{report.in_use[found.key]:.0%}"
        yield f"Measured: {report.rate:.3g} requests/s, with {share} of {found.name} in use."
    else:
        yield (
            f"Measured: {report.rate:.3g} requests/s, with none of these in use for the most part: "
            "the routes wait for something else, as another service or a lock on a row."
        )
    if report.share < 0.8 and report.in_use["processor"] > 0.5:  # noqa: PLR2004
        expected = f", with which {report.expected:.3g}/s are predicted"
        yield (
            "Other programs, these servers among them, kept the API waiting: it got "
            f"{report.share:.0%} of the processor time that it needed"
            f"{expected if first.key == 'processor' else ''}. Repeat this on a machine at rest."
        )
    for failure, times in sorted(report.failures.items(), key=lambda each: -each[1])[:5]:
        yield f"{times} x {failure}"
    memory = next(each for each in report.limits if each.key == "memory")
    if memory.rate < report.rate:
        yield f"Over a longer time {memory.name} ends before, at {memory.rate:.3g} requests/s."
    if found:
        yield f"Moved by: {found.moved_by}."


if __name__ == "__main__":
    run_command(main)
