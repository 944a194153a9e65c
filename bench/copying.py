"""`copier copy` and `copier update` as whole processes, against a template of one file."""

import shutil
import subprocess
from pathlib import Path
from time import perf_counter

from bench.measurement import Goal, Row, in_turn
from bench.project import bare_environment, copier_command, copy_command
from bench.workshop import Workshop
from tests.releases import clone_with_releases, released_versions
from tests.repositories import REPOSITORY, commit_all, git

ONE_FILE = "a template of one file"


def measure(workshop: Workshop) -> list[Row]:
    """A copy, whole and for each file, and an update over one release."""
    return [*_copy(workshop), _update(workshop)]


def _copy(workshop: Workshop) -> list[Row]:
    floor_template = _one_file_template(workshop.folder / "one-file")
    target = workshop.folder / "copied"
    samples, floor = in_turn(
        lambda: _seconds_to_copy(workshop.template, target),
        lambda: _seconds_to_copy(floor_template, target),
        warm_ups=1,
    )
    files = len(git(workshop.project.folder, "ls-files").splitlines())
    a_file = [seconds / files for seconds in samples]
    return [
        Row("copy", f"copier copy, {files} files", "s", samples, floor, ONE_FILE, Goal(3.4)),
        Row("copy-a-file", "the same for each file", "s", a_file, floor, ONE_FILE, Goal(0.012)),
    ]


def _update(workshop: Workshop) -> Row:
    template = clone_with_releases(workshop.folder / "released")
    before = f"v{list(released_versions())[-1]}"
    floor_template = _one_file_template(workshop.folder / "one-file-released")
    project = _copied(template, before, workshop.folder / "of-last-release")
    floor_project = _copied(floor_template, "v1.0.0", workshop.folder / "of-one-file")
    samples, floor = in_turn(
        lambda: _seconds_to_update(project), lambda: _seconds_to_update(floor_project), warm_ups=1
    )
    what = f"copier update from {before}"
    return Row("update", what, "s", samples, floor, ONE_FILE, Goal(7))


def _seconds_to_copy(template: Path, target: Path) -> float:
    shutil.rmtree(target, ignore_errors=True)
    return _seconds(copy_command(template, target), REPOSITORY)


def _seconds_to_update(project: Path) -> float:
    copy = project.with_name(f"{project.name}-updated")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(project, copy, symlinks=True)
    head = git(copy, "rev-parse", "HEAD")
    # Trust is for what a release has to move, where the update crosses one that does.
    seconds = _seconds([*copier_command(), "update", "--trust", "--defaults", "--quiet"], copy)
    if git(copy, "rev-parse", "HEAD") != head or git(copy, "ls-files", "--unmerged"):
        raise RuntimeError(f"the update of {project.name} has conflicts or changed its history")
    if not git(copy, "status", "--porcelain"):
        raise RuntimeError(f"the update of {project.name} changed nothing")
    return seconds


def _seconds(command: list[str], folder: Path) -> float:
    started = perf_counter()
    subprocess.run(command, cwd=folder, env=bare_environment(), check=True)
    return perf_counter() - started


def _one_file_template(folder: Path) -> Path:
    """A template of one file, with two releases."""
    folder.mkdir()
    (folder / "copier.yml").write_text("project_name: {type: str, default: Service}\n")
    (folder / "{{ _copier_conf.answers_file }}.jinja").write_text(
        "{{ _copier_answers | to_nice_yaml }}"
    )
    for version in ("v1.0.0", "v1.1.0"):
        (folder / "README.md.jinja").write_text("# {{ project_name }} " + version + "\n")
        commit_all(folder, version)
        git(folder, "tag", version)
    return folder


def _copied(template: Path, version: str, folder: Path) -> Path:
    command = [*copy_command(template, folder), "--vcs-ref", version]
    subprocess.run(command, env=bare_environment(), check=True)
    commit_all(folder, "Start")
    return folder
