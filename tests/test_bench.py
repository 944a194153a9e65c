"""The benchmark: what it makes of its samples, and that the documentation shows what it wrote."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bench.measurement import REPEATS, Goal, Row, in_turn
from bench.page import BEGIN, END, FIGURES, IMAGES, PAGE, drawings, table
from bench.report import table as printed_table
from bench.report import write_json
from tests.repositories import REPOSITORY

SLOW = Row("slow", "a slow thing", "s", [3, 9, 4], [1, 2, 2], "a quick thing", Goal(1.5))
LARGE = Row("large", "a large thing", "MB", [80], goal=Goal(95, of_ratio=False))
FIGURE = Row("figure", "a figure", "µs", [7])


class TestRow:
    def test_medians_make_the_ratio(self) -> None:
        assert (SLOW.value, SLOW.floor_value, SLOW.ratio) == (4, 2, 2)

    def test_a_goal_bounds_the_ratio_or_the_figure(self) -> None:
        assert SLOW.is_met is False
        assert LARGE.is_met is True
        assert FIGURE.is_met is None

    @pytest.mark.parametrize(("figure", "met"), [(0.3, True), (0.2996, True), (0.294, False)])
    def test_a_goal_counts_as_the_table_shows_the_figure(self, figure: float, *, met: bool) -> None:
        row = Row("share", "a share", "", [figure], [1], goal=Goal(0.3, at_least=True))
        assert row.is_met is met


def test_samples_are_taken_in_turn() -> None:
    order: list[str] = []

    def take(name: str) -> float:
        order.append(name)
        return len(order)

    subject, floor = in_turn(lambda: take("subject"), lambda: take("floor"), warm_ups=1)
    assert order == ["subject", "floor"] * (1 + REPEATS)
    assert (len(subject), len(floor)) == (REPEATS, REPEATS)
    assert subject[0] == 3  # the warm-up's is thrown away


class TestReport:
    def test_table_shows_figure_floor_ratio_and_goal(self) -> None:
        lines = printed_table([SLOW, LARGE, FIGURE]).splitlines()
        cells = [re.split(r"  +", line) for line in lines[2:]]
        assert cells == [
            ["slow", "a slow thing", "4 s", "2 s", "2", "≤ 1.5", "NO"],
            ["large", "a large thing", "80 MB", "≤ 95 MB", "yes"],
            ["figure", "a figure", "7 µs"],
        ]

    def test_json_keeps_samples_and_rows_of_parts_that_were_measured_before(
        self, tmp_path: Path
    ) -> None:
        path = tmp_path / "bench.json"
        write_json(path, [SLOW, LARGE], 1, {"fastapi": "1.0"})
        write_json(path, [LARGE], 1, {"fastapi": "1.0"})
        document = json.loads(path.read_text(encoding="utf-8"))
        assert [row["name"] for row in document["rows"]] == ["slow", "large"]
        assert document["rows"][0]["samples"] == [3, 9, 4]
        assert document["rows"][0]["ratio"] == 2
        assert document["versions"] == {"fastapi": "1.0"}


class TestPage:
    def test_shows_the_figures_of_the_run(self) -> None:
        written = PAGE.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]
        assert written == table(json.loads(FIGURES.read_text(encoding="utf-8")))

    def test_so_do_the_drawings(self) -> None:
        made = drawings(json.loads(FIGURES.read_text(encoding="utf-8")))
        assert {name: (IMAGES / name).read_text(encoding="utf-8") for name in made} == made


@pytest.mark.full
def test_one_part_from_the_command_line(tmp_path: Path) -> None:
    results = tmp_path / "bench.json"
    command = [sys.executable, "-m", "bench", "--row", "layers", "--json", str(results)]
    done = subprocess.run(command, cwd=REPOSITORY, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "the read endpoint" in done.stdout
    rows = {row["what"]: row for row in json.loads(results.read_text(encoding="utf-8"))["rows"]}
    assert len(rows["all: the read endpoint"]["samples"]) == REPEATS
    assert rows["asyncpg's fetchrow"]["value"] < rows["all: the read endpoint"]["value"]
