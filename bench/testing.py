"""What the tests of a default project cost: one that is rolled back, and all of `make test`."""

import json
import shutil
from pathlib import Path
from statistics import median
from time import perf_counter

from bench.measurement import Goal, Row, in_turn
from bench.project import Project, render
from bench.workshop import Workshop

IN_PROJECT = Path(__file__).parent / "in_project"
ROLLBACK = "test_rollback.py"


def measure(workshop: Workshop) -> list[Row]:
    """Four rows, from the smallest to the largest."""
    project = workshop.project
    return [_rollback(project), _servers(project), _all_tests(project), _first_run(workshop)]


def _rollback(project: Project) -> Row:
    """Samples are medians of 200 tests each; subject and floor run in the same pytest."""
    target = project.folder / "tests" / ROLLBACK
    shutil.copy2(IN_PROJECT / ROLLBACK, target)
    try:
        pairs = [_median_milliseconds(project, target) for _ in range(5)]
    finally:
        target.unlink()
    return Row(
        "rollback-test",
        "test with a POST and a GET, rolled back",
        "ms",
        [subject for subject, _ in pairs],
        [floor for _, floor in pairs],
        "the same with two health requests",
        Goal(6),
    )


def _median_milliseconds(project: Project, path: Path) -> tuple[float, float]:
    report = project.folder.parent / "durations.json"
    project.run(
        *(str(project.python), "-m", "pytest", "-q", "-n0", "-p", "durations", str(path)),
        PYTHONPATH=f"{project.folder}:{IN_PROJECT}",
        DURATIONS=str(report),
    )
    took = json.loads(report.read_text(encoding="utf-8"))
    return median(took["test_rolled_back"]), median(took["test_without_database"])


def _servers(project: Project) -> Row:
    program = str(IN_PROJECT / "server_start.py")
    samples = [float(project.run_python(program)) for _ in range(5)]
    goal = Goal(1, of_ratio=False)
    return Row("servers", "embedded servers until they answer", "s", samples, goal=goal)


def _all_tests(project: Project) -> Row:
    samples, floor = in_turn(
        lambda: _seconds(project, "make", "test"),
        lambda: _seconds(project, str(project.python), "-c", "import app.main"),
        warm_ups=1,
    )
    floor_is = 'python -c "import app.main"'
    goal = Goal(6, of_ratio=False)
    return Row("make-test", "make test, caches warm", "s", samples, floor, floor_is, goal)


def _first_run(workshop: Workshop) -> Row:
    samples = []
    for number in range(5):
        project = render(workshop.template, workshop.folder / f"fresh-{number}")
        samples.append(_seconds(project, "make", "test"))
        shutil.rmtree(project.folder)
    goal = Goal(10, of_ratio=False)
    return Row("first-run", "rendered folder to first green make test", "s", samples, goal=goal)


def _seconds(project: Project, *command: str) -> float:
    started = perf_counter()
    # Without a folder of its own pytest would tidy up what other runs on this machine have left.
    project.run(*command, PYTEST_DEBUG_TEMPROOT=str(project.folder.parent))
    return perf_counter() - started
