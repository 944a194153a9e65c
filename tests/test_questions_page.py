"""`docs/questions.md` says what `copier.yml` does."""

import re

import pytest

from tests.combinations import configuration, questions
from tests.conftest import Render
from tests.repositories import REPOSITORY

PAGE = (REPOSITORY / "docs" / "questions.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## `(\w+)`\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
REFUSED = [
    (name, answer, words)
    for name, section in SECTIONS.items()
    for answer, words in re.findall(
        r"^\| `([^`]+)` \| ([^`|]+) \|$",
        section.partition("| refused | it says |")[2],
        re.MULTILINE,
    )
]
LEADING_THERE = {
    "supabase_connection": {"database": "supabase"},
    "postgres_connection": {"database": "postgresql"},
    "redis_endpoint": {"redis": "redis_cloud"},
    "redis_tls": {"redis": "redis", "redis_endpoint": "redis.example.com:6379"},
    "redis_connection_limit": {
        "redis": "redis_cloud",
        "redis_endpoint": "redis.example.com:6379",
    },
}


def test_has_every_question_in_order() -> None:
    assert list(SECTIONS) == list(questions())


@pytest.mark.parametrize("name", SECTIONS)
def test_repeats_the_question(name: str) -> None:
    asked = re.search(r"^> (.+)$", SECTIONS[name], re.MULTILINE)
    assert asked
    words = " ".join(questions()[name]["help"].split())
    # Of a question with variants the page repeats the first.
    assert asked[1].replace("\\<", "<") in re.sub(r"\{\{ *(['\"])(.*?)\1.*?\}\}", r"\2", words)


@pytest.mark.parametrize("name", SECTIONS)
def test_gives_default_and_choices(name: str) -> None:
    details = questions()[name]
    default = details.get("default")
    if isinstance(default, str) and default and "{{" not in default:
        assert f"Default: `{default}`" in SECTIONS[name]
    choices = details.get("choices")
    if isinstance(choices, dict):
        rows = re.findall(r"^\| ([^|`]+) \| `(\w+)` \|$", SECTIONS[name], re.MULTILINE)
        assert dict(rows) == choices


@pytest.mark.parametrize(("name", "answer", "words"), REFUSED)
def test_refuses_what_it_calls_refused(render: Render, name: str, answer: str, words: str) -> None:
    answers = LEADING_THERE.get(name, {}) | {name: answer}
    with pytest.raises(ValueError, match=re.escape(words)):
        render(**answers)


def test_lists_the_catalogue() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.+) \|$", SECTIONS["extensions"], re.MULTILINE)
    assert dict(rows) == configuration()["extension_catalogue"]["default"]


def test_refuses_something_of_each_free_text() -> None:
    free = {n for n, q in questions().items() if q.get("validator") and "choices" not in q}
    assert {name for name, _, _ in REFUSED} == free
