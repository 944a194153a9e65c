"""Where the time of a read goes: what each layer takes of the processor."""

import json
from pathlib import Path

from bench.measurement import Row
from bench.service import production
from bench.workshop import Workshop

PROGRAM = Path(__file__).parent / "in_project" / "read_layers.py"


def measure(workshop: Workshop) -> list[Row]:
    """A row for each layer; no goals, they explain the read endpoint's."""
    settings = production(workshop.servers, workshop.servers.direct)
    printed = workshop.installed.run_python(str(PROGRAM), TOKEN=workshop.token, **settings)
    layers = json.loads(printed.splitlines()[-1])
    return [
        Row(f"layer-{number}", name, "µs", samples)
        for number, (name, samples) in enumerate(layers.items(), start=1)
    ]
