"""The service's parts keep apart: a violation is shown by file and line."""

from collections.abc import Callable, Iterator

import pytest

from kit.architecture import RULES


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_nothing_breaks_it(rule: Callable[[], Iterator[str]]) -> None:
    assert list(rule()) == []
