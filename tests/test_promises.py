"""`docs/promises.md`: every promise names the tests that fail when it is broken."""

import re
from collections import Counter
from pathlib import Path

import pytest

from tests.named_tests import named_tests

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "promises.md").read_text(encoding="utf-8")

NUMBERS = {
    "T": 9,
    "D": 9,
    "Q": 10,
    "G": 8,
    "M": 10,
    "A": 6,
    "S": 4,
    "J": 1,
    "P": 4,
    "X": 5,
    "C": 5,
    "H": 7,
    "O": 6,
    "K": 5,
    "R": 3,
    "V": 3,
}
"""How many rows each part of the list has; all of them are either promised or named as not yet."""

PROMISES = dict(re.findall(r"^### (\w\d+)\n(.*?)(?=^#|\Z)", PAGE, re.MULTILINE | re.DOTALL))
NOT_YET = re.findall(r"^\| (\w\d+) \|", PAGE, re.MULTILINE)
TEST_NAME = re.compile(r"^- `([^`]+)`$", re.MULTILINE)


def test_every_row_appears_once() -> None:
    rows = {f"{part}{number}" for part, last in NUMBERS.items() for number in range(1, last + 1)}
    rows |= {"F2", "F3"}  # the others of their part are not promised yet
    headings = re.findall(r"^### (\w\d+)$", PAGE, re.MULTILINE)
    assert Counter([*headings, *NOT_YET]) == Counter(rows)


@pytest.mark.parametrize("row", PROMISES)
def test_promise_names_tests_that_exist(row: str) -> None:
    names = TEST_NAME.findall(PROMISES[row])
    assert names, f"{row} names no test"
    assert sorted(set(names) - named_tests()) == []


@pytest.mark.parametrize("row", PROMISES)
def test_promise_says_what_it_promises(row: str) -> None:
    assert len(TEST_NAME.sub("", PROMISES[row]).split()) > 5
