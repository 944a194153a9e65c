"""Writes resources with random names and fields, as `make resource` does, in one process.

Takes how many, and a seed, which draws the same again. Prints each call as one line of JSON: the
arguments of `make resource`. Runs in a project with the extension `shop`, with its root as working
folder.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from datetime import date, time
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from kit.resource import KINDS, Request, _service, write_resource
from kit.resource._fields import names_of
from kit.resource._kinds import Kind
from kit.settings import BASE_DIR, StartupError

EXTENSION = "shop"
MOST_FIELDS = 6

NOUNS = """
address amount asset author batch body box branch call case category change city class client code
colour column comment company count country criteria customer data datum day device discount
document duty email entry error event exam expense field file filter form group hash house id
image index input invoice item job key kind label language leaf level line link list location log
member message meta method mouse name news note number offer office option order output owner page
parent part patch path payment person phone photo place plan point price product profile project
query question rate record region request response result review role row rule sample schema scope
score search secret section series session setting sheet size source staff stage state status step
stock store street subject supplier table tag target task team template text thing ticket time
title token total track trip type unit url usage user value version view visit week weight word
work year zone
""".split()  # noqa: SIM905
"""What people call things, and what the code around them uses too."""

WORDS = st.from_regex(r"[a-z]{2,9}(_[a-z0-9]{1,8}){0,2}", fullmatch=True)
PAIRS = st.tuples(st.sampled_from(NOUNS), st.sampled_from(NOUNS)).map("_".join)
NAMES = st.sampled_from(NOUNS) | PAIRS | WORDS
MEMBERS = st.sampled_from(["new", "old", "in-use", "on_hold", "none", "class", "A", "name", "x1"])
WHOLE = st.integers(-(2**31), 2**31 - 1) | st.integers(-5, 1500)
LONG = st.integers(-(2**63), 2**63 - 1) | WHOLE
DAYS = st.dates(date(1900, 1, 1), date(2100, 1, 1))


def bounded(kind: str, ends: st.SearchStrategy[Any]) -> st.SearchStrategy[str]:
    pairs = st.lists(ends, min_size=2, max_size=2, unique=True).map(sorted)
    return st.just(kind) | pairs.map(lambda pair: f"{kind}({pair[0]},{pair[1]})")


def sized(kind: str, longest: int) -> st.SearchStrategy[str]:
    return st.just(kind) | st.integers(1, longest).map(lambda size: f"{kind}({size})")


def decimals(draw: Callable[[Any], Any]) -> str:
    count = draw(st.integers(1, 28))
    return f"decimal({count},{draw(st.integers(0, count))})"


KIND = {
    "str": sized("str", 999),
    "text": sized("text", 20_000),
    "int": bounded("int", WHOLE),
    "bigint": bounded("bigint", LONG),
    "float": bounded("float", WHOLE | st.floats(-1e9, 1e9)),
    "decimal": st.composite(decimals)(),
    "enum": st.lists(MEMBERS, min_size=2, max_size=5, unique=True).map(
        lambda names: f"enum({','.join(names)})"
    ),
    "list": st.sampled_from(["list(str)", "list(int)", "list(float)", "list(bool)"]),
}


def defaults(kind: Kind) -> st.SearchStrategy[Any]:
    """What a field of the kind may have as its default."""
    samples = st.sampled_from([each for each in kind.samples if each is not None] or [None])
    more: dict[Any, st.SearchStrategy[Any]] = {
        str: st.sampled_from(["a b", "it's", "50%", "{x}", "\\"]),
        date: DAYS,
        time: st.sampled_from([time(0), time(23, 59, 59), time(8, 30)]),
        bool: st.booleans(),
    }
    return samples | more.get(kind.default_type, samples)


@st.composite
def described(draw: st.DrawFn, itself: str, others: list[str]) -> str:
    """A field of any kind, as a person describes it."""
    name, kind = draw(NAMES), draw(st.sampled_from(sorted(KINDS)))
    if kind == "ref":
        target = draw(st.sampled_from([itself, *others]))
        marks = "?" if target == itself else draw(st.sampled_from(["", "?", "!", "?!"]))
        return f"{name}:ref({target}){marks}"
    text = draw(KIND.get(kind, st.just(kind)))
    arguments = text.partition("(")[2].rstrip(")")
    try:
        made = KINDS[kind](*(arguments.split(",") if arguments else ()))
    except ValueError:
        return f"{name}:{kind}"  # refused when it is written
    nullable = draw(st.sampled_from(["", "?"]))
    if made.can_be_unique and draw(st.booleans()):
        return f"{name}:{text}{nullable}!"
    if kind == "enum":
        value = draw(st.none() | st.sampled_from([*made.members.values()]))
    elif made.default_type is not None:
        value = draw(st.none() | defaults(made))
    else:
        value = None
    if value is None:
        return f"{name}:{text}{nullable}"
    if isinstance(value, bool):
        value = str(value).lower()
    quoted = f'"{value}"' if " " in str(value) or not str(value) else value
    return f"{name}:{text}{nullable}={quoted}"


@st.composite
def requests(draw: st.DrawFn, written: dict[str, list[str]]) -> Request:
    """A call of `make resource`, which may refer to what was written before."""
    extension, name = draw(st.sampled_from(["", "", EXTENSION])), draw(NAMES)
    others = [*written[""], *(written[EXTENSION] if extension else [])]
    fields = draw(st.lists(described(name, others), min_size=1, max_size=MOST_FIELDS))
    with_page = draw(st.sampled_from([False, False, True]))
    return Request(name, " ".join(fields), extension=extension, with_page=with_page)


def drawn(strategy: st.SearchStrategy[Request], number: int) -> Request:
    """One that the number stands for; the first that hypothesis draws would be the simplest."""
    found: list[Request] = []

    @seed(number)
    @settings(
        max_examples=5,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=[*HealthCheck],
    )
    @given(strategy)
    def collect(request: Request) -> None:
        found.append(request)

    collect()
    return found[-1]


def write_resources(count: int, number: int) -> None:
    """Write as many as asked for; what is refused is drawn again."""
    written: dict[str, list[str]] = {"": [], EXTENSION: []}
    turn = number * 1_000_000
    while sum(map(len, written.values())) < count:
        request = drawn(requests(written), turn := turn + 1)
        _service.registered.cache_clear()
        try:
            files = [str(path.relative_to(BASE_DIR)) for path, _ in write_resource(request)]
        except StartupError as error:
            if "nothing was written" in str(error):
                raise AssertionError(f"{request}: {error}") from error
            print(f"{request} is refused: {error}", file=sys.stderr)
            continue
        written[request.extension].append(request.name)
        names = names_of(request.name, extension=request.extension)
        asked = {name: value for name, value in asdict(request).items() if value}
        told = {"asked": asked, "files": files, "path": names.path, "table": names.table}
        print(json.dumps(told | {"identity": names.identity}), flush=True)


if __name__ == "__main__":
    write_resources(int(sys.argv[1]), int(sys.argv[2]))
