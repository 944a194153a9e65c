"""More clients than the pool has connections: requests a second, and memory."""

from functools import partial

from bench.endpoints import NOTE, NOTES, write_note
from bench.load import Request, put_load
from bench.measurement import REPEATS, Goal, Row, in_turn
from bench.service import POOL_SIZE, Server, production, running_api
from bench.workshop import Workshop

CROWDS = (32, 256)


def measure(workshop: Workshop) -> list[Row]:
    """Reads and creates by 32 and by 256 clients, beside as many as there are connections."""
    settings = production(workshop.servers, workshop.servers.direct)
    with running_api(workshop.installed, settings) as api:
        note = f"{NOTES}/{write_note(api, workshop.token)}"
        read = Request("GET", note, token=workshop.token)
        create = Request("POST", NOTES, NOTE, workshop.token)
        rows = _crowd("read", api, read) + _crowd("create", api, create)
        return [*rows, _memory(api, read)]


def _crowd(name: str, api: Server, request: Request) -> list[Row]:
    few, *many = in_turn(
        *(partial(_rate, api, request, clients) for clients in (POOL_SIZE, *CROWDS)),
        warm_ups=1,
    )
    return [
        Row(
            f"crowd-{name}-{clients}",
            f"{name} a row, {clients} clients for {POOL_SIZE} connections",
            "requests/s",
            samples,
            few,
            f"{POOL_SIZE} clients",
            Goal(0.85, at_least=True),
        )
        for clients, samples in zip(CROWDS, many, strict=True)
    ]


def _rate(api: Server, request: Request, clients: int) -> float:
    return put_load(api, request, clients=clients).requests_per_second


def _memory(api: Server, request: Request) -> Row:
    before = api.resident_megabytes()
    samples = []
    for _ in range(REPEATS):
        put_load(api, request, clients=CROWDS[-1])
        samples.append(api.resident_megabytes())
    what = f"memory under {CROWDS[-1]} clients, resident"
    return Row("crowd-memory", what, "MB", samples, [before], "before", Goal(1.1))
