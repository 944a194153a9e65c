"""Bring a service across the releases that move files of the template, with its owner's edits.

Run by Copier as an `after` migration, in the project. Each such release has a table beside this
module. The project is calculated as each of them in turn, and in the end as the release that it is
updated to: three versions are compared each time, the release before, the project, and the release,
both releases rendered anew with the project's answers. Only the result is written, in place of what
Copier made of the files.

- A moved file takes its edits along, also into one that several files became. Old names in it are
  rewritten first, so that only edits count.
- Imports, dotted names, paths and commands are rewritten in all files of the project.
- Files that the owner had deleted stay deleted.

Release 0.5.0 moved the machinery from `app/` into `kit/`, besides:

- Where a short file of the owner's stays, what was added goes into it with the imports that it
  needs, and what was changed follows the code that it changes into the kit.
- Tests of the kit are no longer part of a project: those that were edited are kept, and the helpers
  that the owner's tests import.
"""

import ast
import os
import re
import sys
import tempfile
import traceback
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from pathlib import Path, PurePosixPath

import yaml
from packaging.version import Version

from hooks.moves import kept
from hooks.moves.makefiles import merge_makefiles
from hooks.moves.merging import merge_plain
from hooks.moves.modules import ModuleMerger
from hooks.moves.names import Names, Table, defined, dotted
from hooks.moves.projects import merge_projects
from hooks.moves.report import Topic
from hooks.moves.rewriting import Rewriter, is_text
from hooks.moves.state import State
from hooks.moves.trees import (
    Files,
    list_conflicts,
    read_commit,
    read_folder,
    remove,
    text_of,
    write,
)
from hooks.rename import git, render_release

BEGIN = """
This update moves files: your last commit is compared with the releases, files move with your edits,
imports and names are rewritten in all files of the project, and what was done is printed.
Nothing is committed.
"""
UNDO = """
Moving files failed. Your last commit is untouched; what the update changed since goes with

    git reset --hard && git clean -fd

run in the project's folder. Please report what stands above.
"""
NEXT = """

Next: settle conflicts, then `make setup format lint typecheck test` (`format` sorts imports).
"""
KIT_MAKEFILE = "kit/kit.mk"


def main(template: str, answers_file: str) -> None:
    """Migrate the project in the current directory.

    Args:
        template: the template's repository, with the new release.
        answers_file: of the project.

    Raises:
        SystemExit: when it fails; then no file but those that Copier changed has changed.
    """
    print(BEGIN, flush=True)
    try:
        migrate(template, answers_file)
    except (Exception, SystemExit) as error:
        traceback.print_exception(error)
        print(UNDO, file=sys.stderr)
        raise SystemExit(1) from error


def migrate(template: str, answers_file: str) -> None:
    """Calculate what every file becomes, write that, and report it."""
    edited = read_commit()
    committed = edited.get(Path(answers_file).as_posix())
    path = route(template)
    releases = [os.environ["VERSION_FROM"], *(release for _, release in path)]
    answers = [committed for _ in path] + [Path(answers_file).read_bytes()]
    with tempfile.TemporaryDirectory() as name:
        folders = [Path(name, f"release-{number}") for number in range(len(releases))]
        with ThreadPoolExecutor() as pool:
            list(pool.map(partial(render_release, template), answers, releases, folders))
        versions = [edited, *map(read_folder, folders)]
        for version in versions:
            for each in (Path(answers_file).as_posix(), ".copier-answers.yml"):
                version.pop(each, None)
        stages = zip((table for table, _ in path), pairwise(versions[1:]), strict=True)
        state = follow(edited, stages, owned_paths(Path(template)))
        for each, content in state.result.items():
            Path(f"{each}.rej").unlink(missing_ok=True)
            if content is None:
                remove(each)
            else:
                write(each, content, like=folders[-1] / each)
        _offer_deleted(state)
        list_conflicts(state.conflicts(), settled=set(state.result))
    print(f"{state.report}{NEXT}", flush=True)


def route(template: str) -> list[tuple[Table, str]]:
    """The moves that an update crosses, each with the release that it leads to; the new one last.

    Args:
        template: the template's repository. The tags of its releases may be missing from it.
    """
    begin, end = (Version(os.environ[f"VERSION_PEP440_{each}"]) for each in ("FROM", "TO"))
    crossed = [table for table in Table.load_all() if begin < Version(table.version) <= end]
    found = [(table, _release(template, table.version)) for table in crossed]
    if not found or (found[-1][1] and Version(crossed[-1].version) < end):
        found.append((Table(), ""))
    return [*found[:-1], (found[-1][0], os.environ["VERSION_TO"])]


def _release(template: str, version: str) -> str:
    """A release's tag or commit; nothing where it is not released."""
    if tag := git("-C", template, "tag", "--list", f"v{version}").decode().strip():
        return tag
    log = ("log", "--all", "-1", "--format=%H", "--grep", f"^Release {re.escape(version)}$")
    return git("-C", template, *log).decode().strip()


def owned_paths(template: Path) -> tuple[str, ...]:
    """Files and folders of the owner's that the new release writes but once."""
    configuration = yaml.safe_load((template / "copier.yml").read_text(encoding="utf-8"))
    return tuple(path.strip("/") for path in configuration.get("_skip_if_exists", ()))


def follow(
    edited: Files, stages: Iterable[tuple[Table, tuple[Files, Files]]], owned: tuple[str, ...]
) -> State:
    """Calculate what a project becomes, move after move.

    Args:
        edited: the project.
        stages: tables with the releases before and after the move.
        owned: files and folders of the owner's, which no move touches but the one that makes them.

    Returns:
        The last move's state, with the result of all moves.
    """
    state, touched = State(Names(Table(), {}), {}, edited, {}), set[str]()
    for table, releases in stages:
        base, new = (
            version if table.makes_owned else _without(version, owned) for version in releases
        )
        names = Names(table, new)
        state.report.rewrite(Rewriter(names).rewrite_words)
        # A kit's file has its last name in the last release; there alone it is reported.
        deleted = {path: each for path, each in state.deleted.items() if _is_in(owned, path)}
        edited = state.outcome()
        for path, before, after in state.unsettled():
            if path in base:
                base, edited = {**base, path: before}, {**edited, path: after}
        state = State(names, base, edited, new, state.report, state.versions, deleted)
        calculate(state)
        touched |= state.result.keys()
        state.deleted |= {path: new[path] for path in new if state.result.get(path, b"") is None}
    conflicts = state.conflicts()
    state.report.keep(Topic.CONFLICTS, lambda line: line.partition(" ")[0] in conflicts)
    files = state.outcome()
    state.result = {path: files.get(path) for path in sorted(touched)}
    _look_for_deleted(state)
    return state


def _without(files: Files, owned: tuple[str, ...]) -> Files:
    return {path: content for path, content in files.items() if not _is_in(owned, path)}


def _is_in(paths: tuple[str, ...], path: str) -> bool:
    return any(path == each or path.startswith(f"{each}/") for each in paths)


def calculate(state: State) -> None:
    """Determine what every file of the project becomes by one move."""
    table = state.names.table
    for path in table.paths:
        if path.endswith(".py") and state.is_edited(path):
            state.names.add_own(dotted(path), _added_names(state, path))
    moved = set(table.paths) - table.short
    for path in sorted(set(state.base) - moved):
        _stays(state, path)
    for path in sorted(moved):
        _moved(state, path, table.paths[path])
    for path in sorted(set(state.new) - set(state.base)):
        _new(state, path)
    for path in sorted(set(state.edited) - set(state.base) - set(state.new)):
        _own(state, path)
    kept.keep_tests(state)


def _added_names(state: State, path: str) -> set[str]:
    try:
        return defined(ast.parse(state.edited[path])) - defined(ast.parse(state.base[path]))
    except (KeyError, SyntaxError):
        return set()


def _moved(state: State, old: str, new: str) -> None:
    """A file that is in the kit now."""
    if old not in state.base:
        return  # newer than the old release; one of the owner's there is their own
    if old not in state.edited:
        _deleted(state, old, new)
        return
    state.result[old] = None
    if not state.is_edited(old):
        return
    text = text_of(state.edited[old])
    if new not in state.new or text is None:
        state.keep(old, f"no longer in the release, and you had edited it (see {new})")
    elif not old.endswith(".py"):
        base, edited = state.rewritten(old)
        state.put_merged(new, merge_plain(base, edited, state.text(new)).text, old)
        state.report.add(Topic.MOVED, f"{old} -> {new}")
    else:
        _merge_module(state, old, new)


def _deleted(state: State, old: str, new: str) -> None:
    """A file that the owner had deleted: so is what it became, unless other files became it too."""
    if not any(each in state.edited for each in state.names.table.sources(new)):
        state.result[new] = None
    elif new in state.new:
        state.result.setdefault(new, state.new[new])
        state.report.add(Topic.LOOK, f"you had deleted {old}; what it held is in {new}")


def _stays(state: State, path: str) -> None:
    """A file whose place is the same in both releases, or that the new one has not."""
    if path not in state.edited:
        _deleted(state, path, path)
    elif path not in state.new:
        state.result[path] = None
        if state.is_edited(path) and path not in state.names.table.kit_tests:
            state.keep(path, "no longer in the release, and you had edited it")
    elif state.is_edited(path) and path in state.names.table.kit_tests:
        state.keep(path, "yours, though the release has another one there")
    elif not state.is_edited(path):
        state.result[path] = state.result.get(path, state.new[path])
    elif text_of(state.edited[path]) is None or text_of(state.new[path]) is None:
        state.result[path] = state.edited[path]
        if state.new[path] != state.base[path]:
            state.report.add(Topic.KEPT, f"{path}: is no text, and the release has another one")
    else:
        _merge(state, path)


def _merge(state: State, path: str) -> None:
    if path == "Makefile" and KIT_MAKEFILE in state.new:
        _merge_makefile(state)
    elif path.endswith(".py"):
        _merge_module(state, path, path)
    else:
        base, edited = state.rewritten(path) if is_text(path) else _plain(state, path)
        if path == "pyproject.toml" and state.names.table.makes_owned:
            _merge_project(state, base, edited)
        elif path == "README.md":
            _merge_readme(state, base, edited)
        else:
            state.put_merged(path, merge_plain(base, edited, state.text(path)).text, path)


def _plain(state: State, path: str) -> tuple[str, str]:
    return state.base[path].decode(), state.edited[path].decode()


def _merge_readme(state: State, base: str, edited: str) -> None:
    """Merge the owner's README where that goes well; else it stays, as no update ever wrote it."""
    merged = merge_plain(base, edited, state.text("README.md"))
    if merged.has_conflicts:
        state.put("README.md", edited)
        state.report.add(Topic.KEPT, "README.md: yours, with the new names; it was not merged")
    else:
        state.put("README.md", merged.text)


def _merge_module(state: State, old: str, new: str) -> None:
    merger = ModuleMerger(state, old)
    try:
        if old == new:
            merger.into_own()
        else:
            merger.into_kit(new)
    except SyntaxError as error:
        base, edited = state.rewritten(old)
        state.put_merged(new, merge_plain(base, edited, state.text(new)).text, old)
        state.report.add(Topic.LOOK, f"{old} is no valid Python (line {error.lineno})")


def _merge_makefile(state: State) -> None:
    base, edited = state.rewritten("Makefile")
    merged = merge_makefiles(base, edited, state.text("Makefile"), state.text(KIT_MAKEFILE))
    state.put_merged("Makefile", merged.own, "Makefile")
    if merged.added:
        state.report.add(Topic.SHORT, f"Makefile: {', '.join(merged.added)}")
    if merged.changed:
        state.put_merged(KIT_MAKEFILE, merged.kit, "Makefile")
        state.report.add(Topic.KIT, f"{KIT_MAKEFILE}: {', '.join(merged.changed)} (from Makefile)")
    for line in merged.look:
        state.report.add(Topic.LOOK, f"Makefile: {line}")


def _merge_project(state: State, base: str, edited: str) -> None:
    path = "pyproject.toml"
    merged = merge_projects(base, edited, state.text(path))
    state.put_merged(path, merged.text, path)
    if merged.own:
        state.report.add(Topic.SHORT, f"{path}: {', '.join(merged.own)}")
    for name in merged.removed:
        state.report.add(Topic.LOOK, f"{path}: you had taken out {name}; the kit depends on it")


def _new(state: State, path: str) -> None:
    """A file that the old release did not have."""
    if path not in state.edited:
        state.result.setdefault(path, state.new[path])
    elif state.edited[path] != state.new[path]:
        state.report.add(Topic.LOOK, f"{path} is a file of yours at a place of the new release's")


def _own(state: State, path: str) -> None:
    """A file of the owner's own."""
    for folder in PurePosixPath(path).parents:
        if f"{folder}.py" in state.new:
            state.report.add(Topic.LOOK, f"{path} is hidden by {folder}.py: move it elsewhere")
    text = text_of(state.edited[path])
    if text is None or not is_text(path) or PurePosixPath(path).name == "uv.lock":
        return
    new = state.rewriter(path).rewrite(text, path)
    if new != text:
        state.put(path, new)
        state.report.add(Topic.REWRITTEN, path)


def _look_for_deleted(state: State) -> None:
    """Report what needs the files that the owner had deleted."""
    texts = {path: state.text(path) for path in {**state.edited, **state.new, **state.result}}
    for path in sorted(state.deleted):
        line = f"{path} stays deleted"
        needing = [each for each, text in texts.items() if _imports(text, each, dotted(path))]
        if needing:
            line += f", but {', '.join(sorted(needing)[:3])} would import it"
        state.report.add(Topic.LOOK, line)


def _offer_deleted(state: State) -> None:
    """Report how to have files back that the owner had deleted."""
    for path, content in sorted(state.deleted.items()):
        blob = git("hash-object", "-w", "--stdin", stdin=content).decode().strip()
        state.report.add(Topic.LOOK, f"to have {path}: git cat-file -p {blob[:12]} > {path}")


def _imports(text: str, path: str, module: str) -> bool:
    parent, _, last = module.rpartition(".")
    return path.endswith(".py") and (
        f"from {module} import" in text
        or f"import {module}\n" in text
        or f"from {parent} import {last}\n" in text
    )
