"""Every combination of answers, worked out from copier.yml itself.

Questions with choices are multiplied out with each other and with every set of extensions; where
that is too much, `covering_set` lets every two values meet that can.

A question of free text has representatives here, one for each class of what people write; the sets
below fail to load when a question has neither. Which questions follow from which answers is read
from their `when`.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import chain, cycle
from itertools import combinations as subsets_of
from typing import Any

import yaml
from covertable import make
from jinja2 import Environment, StrictUndefined, meta, nodes

from tests.repositories import REPOSITORY

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
    "𠮷野家 𝒮hop",
    "null",
    "%(name)s {name} ${name} '''\"\"\"",
    "x" * 60,
]
"""Names of one line that have to come out of every file as they went in."""

REPRESENTATIVES: dict[str, list[Any]] = {
    "project_name": ["My Service", *HOSTILE_TEXTS],
    "project_description": ["A FastAPI service.", *HOSTILE_TEXTS],
    "author": ["", "Ada Lovelace", 'José "Pepe" #1 \\ <pepe@example.com>', "𠮷田太郎"],
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
    """The questions that a user can be asked, in order.

    Computed values are none, nor is what is answered by `--data` alone.
    """
    return {
        name: details
        for name, details in configuration().items()
        if not name.startswith("_")
        and details.get("when") is not False
        and details.get("ask") is not False
    }


def values_of(name: str) -> list[Any]:
    """All values of a finite question, or the representatives of free text.

    Raises:
        LookupError: the question has neither.
    """
    details = questions()[name]
    if name in REPRESENTATIVES:
        return REPRESENTATIVES[name]
    if name == "extensions":
        return sets_of_extensions()
    if details["type"] == "bool":
        return [False, True]
    choices = details.get("choices")
    if not isinstance(choices, dict | list) or details.get("multiselect"):
        raise LookupError(
            f"{name} has no plain choices: give it representatives in tests/combinations.py"
        )
    return list(choices.values() if isinstance(choices, dict) else choices)


def catalogue() -> list[str]:
    """Names of the extensions that can be chosen."""
    return list(configuration()["extension_catalogue"]["default"])


def sets_of_extensions() -> list[list[str]]:
    """Every answer that `extensions` can have: none, each, each two, and so on to all."""
    sizes = range(len(catalogue()) + 1)
    subsets = chain.from_iterable(subsets_of(catalogue(), size) for size in sizes)
    return [list(subset) for subset in subsets]


def combinations() -> list[Answers]:
    """Every combination of answers that changes more than a text."""
    several: list[Answers] = [{}]
    for name in questions():
        if name not in CYCLED:
            several = list(chain.from_iterable(_answered(answers, name) for answers in several))
    return _with_texts(several)


def _answered(answers: Answers, name: str) -> list[Answers]:
    """These answers with each value of one more question, if they lead to it."""
    if not is_asked(name, answers):
        return [answers]
    return [answers | {name: value} for value in values_of(name)]


def covering_set() -> list[Answers]:
    """Few combinations in which each two values of different questions meet where they can.

    Each extension counts as a question of its own, in or out; so does that a question is not
    asked. Texts that nothing depends on are spread over the combinations.
    """
    return [answers for _, answers in covering_set_with([""])]


def covering_set_with(values: Sequence[str]) -> list[tuple[str, Answers]]:
    """Each combination of a covering set in which each of these values meets each answer."""
    factors = {name: values_of_factor(name) for name in factors_of(questions())}
    constraints = [_constraint(name) for name in factors if NOT_ASKED in factors[name]]
    rows = make({"": list(values), **factors}, constraints=constraints)
    several = _with_texts(answers_to(row) for row in rows)
    return [(row[""], answers) for row, answers in zip(rows, several, strict=True)]


def switches() -> dict[str, tuple[Answers, Answers]]:
    """Answers of the covering set, and the same with one of them switched, by what is switched.

    Each value of each factor is on one of the two sides. An answer that the switch leads to is the
    first of its question.
    """
    found: dict[str, tuple[Answers, Answers]] = {}
    several = covering_set()
    for factor in factors_of(questions()):
        first, *others = (value for value in values_of_factor(factor) if value is not NOT_ASKED)
        start = next(answers for answers in several if value_in(answers, factor) == first)
        for value in others:
            name = f"{factor.replace(' ', '-')}-{others.index(value) + 1}"
            found[name] = start, _switched(start, factor, value)
    return found


def value_in(answers: Answers, factor: str) -> object:
    """What answers say of a factor."""
    question, _, extension = factor.partition(" ")
    return extension in answers["extensions"] if extension else answers.get(question, NOT_ASKED)


def _asked(answers: Answers) -> Answers:
    """Without the answers to questions that these answers do not lead to."""
    led_to: Answers = {}
    for name, value in answers.items():
        if is_asked(name, led_to):
            led_to[name] = value
    return led_to


def _switched(answers: Answers, factor: str, value: object) -> Answers:
    row = {each: value_in(answers, each) for each in factors_of(questions())} | {factor: value}
    wanted = {name: values_of(name)[0] for name in questions()} | answers | answers_to(row)
    return _asked({name: wanted[name] for name in questions()})


NOT_ASKED = None
"""What a question has for a value where other answers do not lead to it."""


def factors_of(names: Iterable[str]) -> list[str]:
    """What is varied to vary these questions: themselves, and for extensions each of them."""
    factors = []
    for name in names:
        if name == "extensions":
            factors += [f"extensions {extension}" for extension in catalogue()]
        elif name not in CYCLED:
            factors.append(name)
    return factors


def values_of_factor(factor: str) -> list[Any]:
    """The values of a factor, `NOT_ASKED` among them where that can be."""
    if factor not in questions():
        return [False, True]
    return [*([NOT_ASKED] if "when" in questions()[factor] else []), *values_of(factor)]


def answers_to(row: Answers) -> Answers:
    """The answers that the values of factors stand for, in the order of the questions."""
    answers = {name: row[name] for name in questions() if row.get(name, NOT_ASKED) is not NOT_ASKED}
    if any(factor in row for factor in factors_of(["extensions"])):
        answers["extensions"] = [name for name in catalogue() if row.get(f"extensions {name}")]
    return {name: answers[name] for name in questions() if name in answers}


def _constraint(name: str) -> dict[str, Any]:
    """For covertable: a question has an answer if and only if the others lead to it."""
    leading = leading_to(name)

    @cache
    def led_to(*values: object) -> bool:
        return is_asked(name, answers_to(dict(zip(leading, values, strict=True))))

    def holds(row: Answers) -> bool:
        return led_to(*(row[factor] for factor in leading)) == (row[name] is not NOT_ASKED)

    return {"operator": "fn", "requires": [name, *leading], "evaluate": holds}


def _with_texts(several: Iterable[Answers]) -> list[Answers]:
    texts = {name: cycle(values_of(name)) for name in questions() if name in CYCLED}
    return [{name: next(values) for name, values in texts.items()} | each for each in several]


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


_jinja = Environment(undefined=StrictUndefined, autoescape=True)
_template = cache(_jinja.from_string)


def leading_to(factor: str) -> list[str]:
    """The factors that decide whether a question is asked; of extensions, those that it names."""
    if factor not in questions():
        return []
    parsed = _jinja.parse(_when(factor))
    names = meta.find_undeclared_variables(parsed) & set(questions())
    named = {f"extensions {constant.value}" for constant in parsed.find_all(nodes.Const)}
    leading = factors_of(name for name in questions() if name in names)
    extensions = set(factors_of(["extensions"]))
    return [each for each in leading if each not in extensions - (named & extensions or extensions)]


def is_asked(name: str, answers: Answers) -> bool:
    """Whether these answers lead to a question."""
    if "when" not in questions()[name]:
        return True
    computed = {
        name: details["default"]
        for name, details in configuration().items()
        if not name.startswith("_") and details.get("when") is False
    }
    return bool(yaml.safe_load(_template(_when(name)).render(computed | answers)))


def _when(name: str) -> str:
    return str(questions()[name].get("when", True))


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
