"""The combinations of answers hold what they claim, and follow `copier.yml` by themselves."""

import copy
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import combinations as subsets_of
from itertools import product
from typing import Any

import pytest
from jinja2 import UndefinedError

from tests.combinations import (
    CYCLED,
    Answers,
    answers_to,
    catalogue,
    combinations,
    configuration,
    covering_set,
    covering_set_with,
    factors_of,
    leading_to,
    questions,
    representative_combinations,
    switches,
    value_in,
    values_of,
    values_of_factor,
)
from tests.trees import trees


@pytest.fixture
def changed(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """`copier.yml` as a test changes it."""
    configured = copy.deepcopy(configuration())
    monkeypatch.setattr("tests.combinations.configuration", lambda: configured)
    return configured


def pairs(several: Iterable[Answers]) -> Counter[tuple[str, str]]:
    """Each two values of different factors, with the number of combinations where they meet."""
    met: Counter[tuple[str, str]] = Counter()
    for answers in several:
        values = [f"{factor}={value_in(answers, factor)!r}" for factor in factors_of(questions())]
        met.update(subsets_of(values, 2))
    return met


def every_pair() -> set[tuple[str, str]]:
    """Those that can occur, found without the library: all sets of answers are gone through."""
    core = [factor for factor in factors_of(questions()) if " " not in factor]
    found: set[tuple[str, str]] = set()
    for extensions in ([], *([name] for name in catalogue()), catalogue()):
        several = []
        for values in product(*(values_of_factor(factor) for factor in core)):
            answers = answers_to(dict(zip(core, values, strict=True)))
            if led_to_by_hand(answers):
                several.append(answers | {"extensions": extensions})
        found |= set(pairs(several))
    for first, second in subsets_of(catalogue(), 2):  # each without the other, and so on
        for one, two in product((False, True), repeat=2):
            found.add((f"extensions {first}={one}", f"extensions {second}={two}"))
    return found


def led_to_by_hand(answers: Answers) -> bool:
    """What the `when`s of copier.yml say, said again."""
    redis = {"redis_endpoint", "redis_tls", "redis_connection_limit"} & set(answers)
    return (
        ("supabase_connection" in answers) == (answers["database"] == "supabase")
        and ("postgres_connection" in answers) == (answers["database"] == "postgresql")
        and len(redis) == (0 if answers["redis"] == "none" else 3)
    )


def test_every_two_values_that_can_meet_do_so_in_the_covering_set() -> None:
    met = pairs(covering_set())
    assert set(met) == every_pair()


def test_each_of_further_values_meets_each_value_of_the_answers() -> None:
    met = covering_set_with(["old", "older"])
    for factor in factors_of(questions()):
        for value in values_of_factor(factor):
            found = {further for further, answers in met if value_in(answers, factor) == value}
            assert found == {"old", "older"}, (factor, value)


def test_the_covering_set_is_small_and_the_same_each_time() -> None:
    several = covering_set()
    assert several == covering_set()
    assert len(several) < 25
    largest, second = sorted((len(values_of_factor(each)) for each in factors()), reverse=True)[:2]
    assert len(several) >= largest * second


def factors() -> list[str]:
    return factors_of(questions())


def test_each_text_stands_in_the_covering_set() -> None:
    for name in CYCLED:
        used = [answers[name] for answers in covering_set()]
        assert [value for value in values_of(name) if value not in used] == []


def test_a_switch_changes_one_answer_and_what_follows_from_it() -> None:
    met = {factor: set[str]() for factor in factors()}
    for name, (before, after) in switches().items():
        changed = [each for each in factors() if value_in(before, each) != value_in(after, each)]
        assert changed[0].replace(" ", "-") == name.rpartition("-")[0]
        assert [each for each in changed[1:] if changed[0] not in leading_to(each)] == []
        assert led_to_by_hand(after)
        for factor in factors():
            met[factor] |= {repr(value_in(before, factor)), repr(value_in(after, factor))}
    assert met == {each: {repr(value) for value in values_of_factor(each)} for each in factors()}


def test_a_question_that_is_added_is_covered_by_its_choices(changed: dict[str, Any]) -> None:
    changed["colour"] = {
        "type": "str",
        "choices": ["red", "blue"],
        "when": "{{ redis == 'redis_cloud' and 'hotel' in extensions }}",
    }
    for several in (combinations(), covering_set()):
        led_to = [
            answers
            for answers in several
            if answers["redis"] == "redis_cloud" and "hotel" in answers["extensions"]
        ]
        assert {answers.get("colour") for answers in led_to} == {"red", "blue"}
        assert {answers.get("colour") for answers in several if answers not in led_to} == {None}


@pytest.mark.parametrize(
    "question",
    [
        {"type": "str"},
        {"type": "int", "default": 3},
        {"type": "str", "choices": "{{ ['a', 'b'] }}"},
        {"type": "str", "choices": ["a", "b"], "multiselect": True},
    ],
    ids=["text", "number", "computed-choices", "multiselect"],
)
@pytest.mark.parametrize(
    "compute", [combinations, covering_set, representative_combinations], ids=lambda of: of.__name__
)
def test_a_question_that_is_added_without_a_way_to_cover_it_fails(
    changed: dict[str, Any], question: dict[str, Any], compute: Callable[[], list[Answers]]
) -> None:
    changed["motto"] = question
    with pytest.raises(LookupError, match="motto has no plain choices"):
        compute()


def test_a_question_that_is_never_asked_multiplies_nothing(changed: dict[str, Any]) -> None:
    """As `kit_tests`, which `--data` alone answers: trees are tested with it."""
    assert configuration()["kit_tests"]["ask"] is False
    assert [answers for answers in combinations() if "kit_tests" in answers] == []
    assert [answers for answers in trees() if not answers["kit_tests"]] == []
    before = len(combinations()), len(covering_set())
    changed["colour"] = {"type": "str", "ask": False, "default": "red"}
    assert (len(combinations()), len(covering_set())) == before


def test_a_condition_on_what_was_not_asked_before_fails(changed: dict[str, Any]) -> None:
    changed["colour"] = {"type": "bool", "when": "{{ favourite == 'red' }}"}
    with pytest.raises(UndefinedError, match="'favourite' is undefined"):
        covering_set()
