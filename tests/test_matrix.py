"""The matrix: all combinations and all trees are in it, and what fails is told so that it helps."""

import argparse
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.combinations import (
    CYCLED,
    HOSTILE_TEXTS,
    Answers,
    combinations,
    questions,
    sets_of_extensions,
    values_of,
)
from tests.conftest import Render
from tests.matrix import copy_command, main, render_and_check, share_of
from tests.rendered import files
from tests.repositories import REPOSITORY
from tests.trees import code_of, covering_trees, trees

FINITE = [name for name in questions() if name not in CYCLED | {"extensions"}]


def test_every_set_of_extensions_meets_every_other_answer() -> None:
    met: dict[str, set[str]] = {}
    for answers in combinations():
        rest = {name: answers[name] for name in FINITE if name in answers}
        met.setdefault(repr(answers["extensions"]), set()).add(repr(rest))
    assert sorted(met) == sorted(map(repr, sets_of_extensions()))
    assert len({frozenset(rests) for rests in met.values()}) == 1
    assert len(combinations()) == sum(len(rests) for rests in met.values())


@pytest.mark.parametrize("chosen", [trees, sets_of_extensions])
def test_each_extension_is_in_and_out_beside_all_that_the_others_can_be(
    chosen: Callable[[], list[Answers] | list[list[str]]],
) -> None:
    sets = [each["extensions"] if isinstance(each, dict) else each for each in chosen()]
    names = {path.parent.name for path in REPOSITORY.glob("extensions_catalog/[!_]*/__init__.py")}
    assert len(sets) == len({frozenset(each) for each in sets}) == 2 ** len(names)
    assert {name for each in sets for name in each} == names


@pytest.mark.parametrize("chosen", [trees, covering_trees])
@pytest.mark.parametrize("name", FINITE)
def test_every_answer_has_its_tests_run(name: str, chosen: Callable[[], list[Answers]]) -> None:
    asked = [answers[name] for answers in chosen() if name in answers]
    assert {repr(value) for value in asked} == {repr(value) for value in values_of(name)}


def test_covering_trees_hold_each_two_extensions_in_and_out() -> None:
    pairs = {
        (one, other, one in answers["extensions"], other in answers["extensions"])
        for answers in covering_trees()
        for one in values_of("extensions")[-1]
        for other in values_of("extensions")[-1]
        if one != other
    }
    number = len(values_of("extensions")[-1])
    assert len(pairs) == number * (number - 1) * 4


def test_trees_with_the_same_extensions_have_the_same_code(render_fast: Render) -> None:
    same = [answers for answers in combinations() if answers["extensions"] == ["hotel", "mail"]]
    first, last = render_fast("first", **same[0]), render_fast("last", **same[-1])
    assert code_of(first) == code_of(last)
    for path in files(first):
        if path.suffix == ".py":
            assert (first / path).read_bytes() == (last / path).read_bytes(), path
    assert code_of(render_fast("less", extensions=["hotel"])) != code_of(first)


def test_shares_together_are_everything() -> None:
    dealt = [repr(each) for number in range(8) for each in combinations()[number::8]]
    assert sorted(dealt) == sorted(repr(each) for each in combinations())


@pytest.mark.parametrize("text", ["", "3", "0/8", "9/8", "a/8", "1/0", "-1/8"])
def test_what_is_no_share_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="say 3/8"):
        share_of(text)


def test_a_combination_that_is_not_right_is_told(answered_part: Path, tmp_path: Path) -> None:
    compose = answered_part / "template" / "docker-compose.yml.jinja"
    before = compose.read_text(encoding="utf-8")
    try:
        compose.write_text(before + "{{ '{{ left }}' }}\n", encoding="utf-8")
        [(answers, failure)] = render_and_check(answered_part, tmp_path, combinations()[:1])
    finally:
        compose.write_text(before, encoding="utf-8")
    assert answers == combinations()[0]
    assert "docker-compose.yml" in failure
    assert render_and_check(answered_part, tmp_path, combinations()[:1]) == []


@pytest.mark.parametrize("text", HOSTILE_TEXTS)
def test_the_command_that_is_told_renders_the_combination(
    answered_part: Path, tmp_path: Path, text: str
) -> None:
    answers = combinations()[-1] | {"project_name": text, "project_description": text}
    command = shlex.split(copy_command(answers))
    subprocess.run([*command[:-2], str(answered_part), str(tmp_path / "project")], check=True)
    remembered = yaml.safe_load((tmp_path / "project" / ".copier-answers.yml").read_bytes())
    assert {name: remembered[name] for name in answers} == answers


def test_a_share_that_is_right_ends_with_status_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--shard", f"2000/{len(combinations()) // 2}", "--render-only"]) == 0
    assert "2 combinations and 0 trees" in capsys.readouterr().out


@pytest.mark.full
def test_the_session_runs_a_share() -> None:
    share = ["--shard", f"3000/{len(combinations())}", "--render-only"]
    done = subprocess.run(
        ["nox", "--session", "matrix", "--", *share],
        cwd=REPOSITORY,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 combinations and 0 trees" in done.stdout
