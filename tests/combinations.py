"""Every combination of answers, worked out from copier.yml itself.

Questions with choices are multiplied out with each other and with every set of extensions. A
question of free text has representatives here, one for each class of what people write; the sets
below fail to load when a question has neither.
"""

from collections.abc import Iterator
from functools import cache
from itertools import chain, cycle, product
from itertools import combinations as subsets_of
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).resolve().parents[1]

Answers = dict[str, Any]

SUPABASE = (
    "postgresql://postgres.abcdefghijklmnopqrst:[YOUR-PASSWORD]"
    "@aws-0-eu-central-1.pooler.supabase.com:{port}/postgres"
)

HOSTILE_TEXTS = [
    'Käse & "Wein" #1: the {{ 7 * 7 }} {% raw %} {# x #}',
    "it's a back\\slash \\n $HOME `id` $(id)",
    "3D-Druck 🧀👩‍🔬 <script>alert(1)</script> --- ...",
    "class",
    "- yes: [no, ~], *anchor !tag %x @y |",
    "日本語のサービス",
    "null",
    "%(name)s {name} ${name} '''\"\"\"",
    "x" * 60,
]
"""Names of one line that have to come out of every file as they went in."""

REPRESENTATIVES: dict[str, list[Any]] = {
    "project_name": ["My Service", *HOSTILE_TEXTS],
    "project_description": ["A FastAPI service.", *HOSTILE_TEXTS],
    "author": ["", "Ada Lovelace", 'José "Pepe" #1 \\ <pepe@example.com>'],
    "supabase_connection": [SUPABASE.format(port=5432), SUPABASE.format(port=6543)],
    "postgres_connection": ["postgresql://shop@db.example.com:5433/orders"],
    "redis_endpoint": ["redis-12345.c1.eu-central-1-1.ec2.redns.redis-cloud.com:12345"],
    "redis_connection_limit": [30],
    "time_zone": ["UTC", "America/Argentina/Buenos_Aires", "Etc/GMT+12"],
}

CYCLED = {"project_name", "project_description", "author", "time_zone"}
"""Texts that no other answer depends on: spread over the combinations instead of multiplied."""


@cache
def configuration() -> dict[str, Any]:
    """The parsed copier.yml."""
    text = (REPOSITORY / "copier.yml").read_text(encoding="utf-8")
    parsed: dict[str, Any] = yaml.safe_load(text)
    return parsed


def questions() -> dict[str, dict[str, Any]]:
    """The questions that a user can be asked, in order; computed values are none."""
    return {
        name: details
        for name, details in configuration().items()
        if not name.startswith("_") and details.get("when") is not False
    }


def values_of(name: str) -> list[Any]:
    """All values of a finite question, or the representatives of free text."""
    details = questions()[name]
    if name in REPRESENTATIVES:
        return REPRESENTATIVES[name]
    if name == "extensions":
        return sets_of_extensions()
    if details["type"] == "bool":
        return [False, True]
    choices = details["choices"]
    return list(choices.values() if isinstance(choices, dict) else choices)


def catalogue() -> list[str]:
    """Names of the extensions that can be chosen."""
    return list(configuration()["extension_catalogue"]["default"])


def sets_of_extensions() -> list[list[str]]:
    """Every answer that `extensions` can have: none, each, each two, and so on to all."""
    sizes = range(len(catalogue()) + 1)
    subsets = chain.from_iterable(subsets_of(catalogue(), size) for size in sizes)
    return [list(subset) for subset in subsets]


@cache
def combinations() -> list[Answers]:
    """Every combination of answers that changes more than a text."""
    multiplied = [name for name in questions() if name not in CYCLED]
    texts = {name: cycle(values_of(name)) for name in questions() if name in CYCLED}
    seen: dict[str, Answers] = {}
    for values in product(*(values_of(name) for name in multiplied)):
        answers = _asked(dict(zip(multiplied, values, strict=True)))
        seen.setdefault(repr(answers), answers)
    return [{name: next(values) for name, values in texts.items()} | each for each in seen.values()]


def representative_combinations() -> list[Answers]:
    """The defaults, and each value of each question once: the quick tier."""
    return [{}, *_each_value_once()]


def _each_value_once() -> Iterator[Answers]:
    finite = {name: values_of(name) for name in questions()}
    finite["extensions"] = [*([each] for each in catalogue()), catalogue()]
    missing = {(name, repr(value)) for name, values in finite.items() for value in values}
    for answers in combinations():
        new = {(name, repr(value)) for name, value in answers.items()} & missing
        if new:
            missing -= new
            yield answers


def _asked(answers: Answers) -> Answers:
    """Without the answers to questions that these answers do not lead to."""
    hidden = {
        "supabase_connection": answers["database"] != "supabase",
        "postgres_connection": answers["database"] != "postgresql",
        "redis_endpoint": answers["redis"] == "none",
        "redis_tls": answers["redis"] == "none",
        "redis_connection_limit": answers["redis"] == "none",
        "extensions": not catalogue(),
    }
    return {name: value for name, value in answers.items() if not hidden.get(name)}


def identifier(answers: Answers) -> str:
    """A short name of a combination, for test reports."""
    if not answers:
        return "defaults"
    short = [answers["database"], answers["redis"], answers["ci"], answers["python_minimum"]]
    if "6543" in answers.get("supabase_connection", ""):
        short[0] = "supabase-transaction"
    if answers.get("redis_tls"):
        short[1] += "-tls"
    extensions = answers.get("extensions", [])
    short += ["all"] if extensions and extensions == catalogue() else extensions
    return "-".join(short)
