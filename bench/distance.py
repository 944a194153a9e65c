"""A database that is far away: round trips a request, and what 20 ms of latency come to."""

from bench.endpoints import NOTE, NOTES, write_note
from bench.load import Request, put_load
from bench.measurement import REPEATS, Goal, Row
from bench.service import POOL_SIZE, Server, production, running_api
from bench.wire import Link, running_link
from bench.workshop import Workshop

LATENCY = 0.020
"""Seconds between service and pooler, there and back."""

GOALS = {
    ("direct", "read"): 1,
    ("pooler", "read"): 2,
    ("direct", "create"): 4,
    ("pooler", "create"): 4,
}
FAR_GOALS = {"direct": Goal(1.3), "pooler": Goal(1.4)}


def measure(workshop: Workshop) -> list[Row]:
    """Round trips both ways, and the 99th percentile of reads where a pooler is installed."""
    servers = workshop.servers
    urls = {"direct": servers.direct, "pooler": servers.pooler}
    rows = []
    for how, url in urls.items():
        if url:
            rows += _rows(workshop, how, url)
    return rows


def _rows(workshop: Workshop, how: str, url: str) -> list[Row]:
    where = "behind PgBouncer" if how == "pooler" else "directly"
    with running_link(url) as link:
        settings = production(workshop.servers, url, link=link.url)
        with running_api(workshop.installed, settings) as api:
            note = f"{NOTES}/{write_note(api, workshop.token)}"
            trips = {
                "read": _round_trips(api, link, Request("GET", note, token=workshop.token)),
                "create": _round_trips(api, link, Request("POST", NOTES, NOTE, workshop.token)),
            }
    rows = [
        Row(
            f"round-trips-{what}-{how}",
            f"round trips to {what} a row, {where}",
            "",
            samples,
            goal=Goal(GOALS[how, what], of_ratio=False),
        )
        for what, samples in trips.items()
    ]
    return [*rows, _far_away(workshop, how, url, where, trips["read"][0])]


def _round_trips(api: Server, link: Link, request: Request) -> list[float]:
    counts: list[float] = []
    for _ in range(3 + REPEATS):
        before = link.round_trips
        api.call(request.method, request.path, request.body, request.token)
        counts.append(link.round_trips - before)
    return counts[3:]  # the first ones connect and prepare


def _far_away(workshop: Workshop, how: str, url: str, where: str, trips: float) -> Row:
    with running_link(url, LATENCY) as link:
        settings = production(workshop.servers, url, link=link.url)
        with running_api(workshop.installed, settings) as api:
            note = f"{NOTES}/{write_note(api, workshop.token)}"
            request = Request("GET", note, token=workshop.token)
            put_load(api, request, clients=POOL_SIZE, seconds=1)
            samples = [
                put_load(api, request, clients=POOL_SIZE, seconds=2).p99_ms for _ in range(REPEATS)
            ]
    floor = [1000 * LATENCY * trips] * REPEATS
    what = f"99th percentile of a read 20 ms away, {where}"
    return Row(f"far-{how}", what, "ms", samples, floor, "20 ms a round trip", FAR_GOALS[how])
