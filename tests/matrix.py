"""Every combination of answers rendered and checked, every distinct tree linted, typed and tested.

`nox --session matrix` runs it whole, in some hours on two cores; `-- --shard 3/8` the third eighth
of it, for machines side by side. What of it every pull request and `.ci/run` run is in
`docs/combinations.md`.
"""

import argparse
import shlex
import shutil
import sys
import tempfile
import tomllib
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from contextlib import contextmanager, redirect_stdout
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from queue import SimpleQueue
from time import monotonic
from typing import Any

import yaml
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from tests.combinations import Answers, combinations, identifier
from tests.conftest import copy_template
from tests.fast_copier import MEMORY, fast_copier, part_that_answers_reach
from tests.installed_servers import cores
from tests.rendered import check_project
from tests.repositories import REPOSITORY, template_of_working_tree
from tests.service import open_folder, put_uv_into
from tests.trees import Outcome, Workshop, code_of, trees

PAGE = REPOSITORY / "docs" / "combinations.md"
BEGIN, END = "<!-- last full run -->\n", "<!-- /last full run -->"
SHARE = 60
"""Combinations that a process renders at a time."""

Failure = tuple[Answers, str]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; 1 where a combination or a tree failed, else 0."""
    asked = parser().parse_args(arguments)
    number, of = asked.shard
    console = Console()
    started = monotonic()
    with open_folder() as folder:
        if not asked.render_only:
            put_uv_into(folder)
        template = template_of_working_tree(folder / "template")
        chosen = combinations()[number - 1 :: of]
        failures, distinct = render_all(template, chosen, console)
        rendered = monotonic()
        console.print(
            f"{len(chosen):,} combinations rendered and checked in {minutes(rendered - started)}: "
            f"{len(distinct)} distinct trees, {len(chosen) - len(distinct):,} identical to one of "
            "them in Python and dependencies"
        )
        outcomes = (
            [] if asked.render_only else check_trees(folder, trees()[number - 1 :: of], console)
        )
    tested = monotonic()
    console.print(table(outcomes))
    failures += [(each.answers, each.failure) for each in outcomes if each.failure]
    for answers, failure in failures:
        console.print(f"\n[bold red]{identifier(answers)}[/]", highlight=False)
        console.print(failure, markup=False, highlight=False, soft_wrap=True)
        console.print(
            f"To have it before you:\n  {copy_command(answers)}", markup=False, soft_wrap=True
        )
    console.print(
        f"{len(chosen):,} combinations and {len(outcomes)} trees in {minutes(tested - started)}, "
        f"{len(failures)} failed"
    )
    if asked.record and not failures:
        record(len(chosen), outcomes, rendered - started, tested - rendered)
    return 1 if failures else 0


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = argparse.ArgumentParser(prog="matrix", description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "--shard",
        type=share_of,
        default=(1, 1),
        metavar="K/N",
        help="run the K-th of N shares, say 3/8",
    )
    parser.add_argument("--render-only", action="store_true", help="run no tests of the trees")
    parser.add_argument(
        "--record", action="store_true", help="write the figures of a whole run into the documents"
    )
    return parser


def share_of(text: str) -> tuple[int, int]:
    """Number and count of a share, from `3/8`."""
    number, _, of = text.partition("/")
    if not (number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of)):
        message = f"{text!r} is no share: write K/N with K from 1 to N, say 3/8"
        raise argparse.ArgumentTypeError(message)
    return int(number), int(of)


def render_all(
    template: Path, chosen: list[Answers], console: Console
) -> tuple[list[Failure], set[tuple[str, ...]]]:
    """Render the combinations, over all cores; failures, and what the distinct trees are."""
    plain = template.parent / "plain"
    shutil.copytree(template, plain, symlinks=True, ignore=shutil.ignore_patterns(".git"))
    part = part_that_answers_reach(plain, template.parent / "part")
    shares = [chosen[start : start + SHARE] for start in range(0, len(chosen), SHARE)]
    failures: list[Failure] = []
    distinct: set[tuple[str, ...]] = set()
    with ProcessPoolExecutor(cores()) as pool, bar("Rendering", len(chosen), console) as advance:
        futures = {pool.submit(render_share, part, share): len(share) for share in shares}
        for future in as_completed(futures):
            failed, found = future.result()
            failures += failed
            distinct |= found
            advance(futures[future])
    return failures, distinct


def render_share(part: Path, share: list[Answers]) -> tuple[list[Failure], set[tuple[str, ...]]]:
    """Render some combinations into a folder of their own."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        found: set[tuple[str, ...]] = set()
        return render_and_check(part, Path(folder), share, found), found


def render_and_check(
    part: Path, folder: Path, chosen: list[Answers], found: set[tuple[str, ...]] | None = None
) -> list[Failure]:
    """Render combinations one after the other; those that are not right, with the reason.

    Args:
        part: what `part_that_answers_reach` gave.
        folder: an empty one, empty again afterwards.
        chosen: the combinations.
        found: gets what each tree is known by.
    """
    failures = []
    with fast_copier():
        for answers in chosen:
            project = folder / "project"
            try:
                copy_template(part, project, **answers)
                check_project(project, answers)
                if found is not None:
                    found.add(code_of(project))
            except Exception:  # noqa: BLE001 (whatever it is, the others are rendered too)
                failures.append((answers, traceback.format_exc()))
            shutil.rmtree(project, ignore_errors=True)
    return failures


def check_trees(folder: Path, chosen: list[Answers], console: Console) -> list[Outcome]:
    """Check the trees, as many at a time as there are cores."""
    console.print("Installing what all extensions need")
    workshop = set_up(folder)
    places: SimpleQueue[Path] = SimpleQueue()
    for number in range(cores()):
        places.put(workshop.place(f"place-{number}"))

    def check(answers: Answers) -> Outcome:
        place = places.get()
        try:
            return workshop.check(answers, place, "--numprocesses", "0")
        finally:
            places.put(place)

    outcomes = []
    with (
        ThreadPoolExecutor(cores()) as pool,
        bar("Testing trees", len(chosen), console) as advance,
    ):
        futures: list[Future[Outcome]] = [pool.submit(check, answers) for answers in chosen]
        for future in as_completed(futures):
            outcome = future.result()
            outcomes.append(outcome)
            said = "FAILED" if outcome.failure else f"{outcome.tests:,} passed"
            console.print(f"{identifier(outcome.answers)}: {said}", highlight=False)
            advance(1)
    return outcomes


def set_up(folder: Path) -> Workshop:
    """A workshop, and what its installation printed only if it failed."""
    printed = StringIO()
    try:
        with redirect_stdout(printed):
            return Workshop(folder / "template", folder)
    except Exception:
        sys.stderr.write(printed.getvalue())
        raise


@contextmanager
def bar(title: str, total: int, console: Console) -> Iterator[Callable[[int], None]]:
    """A progress bar that estimates what is left; what it yields moves it on."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left:"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(title, total=total)
        yield lambda done: progress.advance(task, done)


def table(outcomes: list[Outcome]) -> Table:
    """All trees, the slowest first."""
    table = Table("tree", "lint", "types", "tests", "passed", title="Seconds of each distinct tree")
    for outcome in sorted(outcomes, key=lambda each: -sum(each.seconds.values())):
        spent = [
            f"{outcome.seconds[check]:.1f}" if check in outcome.seconds else "-"
            for check in ("lint", "typecheck", "test")
        ]
        passed = "[red]FAILED[/]" if outcome.failure else f"{outcome.tests:,}"
        table.add_row(identifier(outcome.answers), *spent, passed)
    return table


def copy_command(answers: Answers) -> str:
    """The command that renders a combination from this checkout."""
    data = [f"--data {shlex.quote(f'{name}={written(value)}')}" for name, value in answers.items()]
    return " ".join(["copier copy --defaults --vcs-ref HEAD", *data, ". ../project"])


def written(value: Any) -> str:  # noqa: ANN401 (whatever a question takes)
    """An answer as Copier reads it from its command line."""
    if isinstance(value, str):
        return value
    return yaml.safe_dump(value, default_flow_style=True).splitlines()[0]


def minutes(seconds: float) -> str:
    """A time to read: 12 min 05 s."""
    whole = round(seconds)
    return f"{whole // 60} min {whole % 60:02} s"


def record(number: int, outcomes: list[Outcome], rendering: float, testing: float) -> None:
    """Write the figures of a whole run into the documentation."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    figures = {
        "version": project["project"]["version"],
        "date": datetime.now(UTC).date().isoformat(),
        "cores": cores(),
        "combinations rendered and checked": f"{number:,}",
        "time for that": minutes(rendering),
        "distinct trees linted, typed and tested": len(outcomes),
        "their tests that passed": f"{sum(outcome.tests for outcome in outcomes):,}",
        "time for those": minutes(testing),
    }
    lines = ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in figures.items())]
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    table = "\n".join(lines)
    PAGE.write_text(f"{before}{BEGIN}\n{table}\n\n{END}{rest.partition(END)[2]}", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
