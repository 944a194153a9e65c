"""Carry a user's edits over when a release renames a file of the template.

Copier sees a rename as one file removed and another added, so an update deletes the edited file and
writes the new one as the template has it. Run as an `after` migration, this script merges three
versions of the file into the new place: the old release's as the base, the project's last commit
with the user's edits, and the new release's. Edits away from what the template changed merge
without markers; others get markers, and git lists the file as unmerged.

Used in copier.yml as

    _migrations:
      - version: v1.2.0
        when: "{{ _stage == 'after' }}"
        command: ["{{ _copier_python }}", "{{ _copier_conf.src_path }}/hooks/rename.py",
                  "{{ _copier_conf.src_path }}", "{{ _copier_conf.answers_file }}",
                  "app/old.py", "app/new.py"]

Any number of pairs may follow; a pair of directories moves every file of the old one.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path


def main(template: str, answers_file: str, *paths: str) -> None:
    """Merge each old path into its new one, in the project in the current directory.

    Raises:
        SystemExit: when paths are missing, or git or Copier fails.
    """
    if not paths or len(paths) % 2:
        raise SystemExit("usage: rename.py TEMPLATE ANSWERS_FILE OLD NEW [OLD NEW ...]")
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder, "old-release")
        _render_old_release(template, answers_file, base)
        for old, new in zip(paths[::2], paths[1::2], strict=True):
            for old_file, new_file in _files(base, old, new):
                print(f"{old_file} -> {new_file}: {_carry_over(base, old_file, new_file)}")


def _render_old_release(template: str, answers_file: str, destination: Path) -> None:
    answers = destination.with_name("answers.yml")
    answers.write_bytes(_committed(answers_file) or b"{}")
    # Copier tells a migration which version the project comes from; a copy of that needs no trust.
    command = [sys.executable, "-m", "copier", "copy", "--quiet", "--defaults"]
    command += ["--vcs-ref", os.environ["VERSION_FROM"], "--data-file", str(answers)]
    subprocess.run([*command, template, str(destination)], check=True)


def _files(base: Path, old: str, new: str) -> Iterator[tuple[str, str]]:
    if not (base / old).is_dir():
        yield old, new
        return
    for path in sorted((base / old).rglob("*")):
        if path.is_file():
            inner = path.relative_to(base / old)
            yield f"{old}/{inner.as_posix()}", f"{new}/{inner.as_posix()}"


def _carry_over(base: Path, old: str, new: str) -> str:
    source, target = base / old, Path(new)
    if not source.is_file() or not target.is_file():
        return "not part of both releases, nothing to do"
    if _committed(new) is not None:
        return f"{new} was there before; the old file is in git: git show HEAD:./{old}"
    Path(old).unlink(missing_ok=True)
    edited = _committed(old)
    if edited is None:
        target.unlink()
        return "was deleted in this project and stays so"
    if edited == source.read_bytes():
        return "moved"
    return _merge(source, edited, target, old)


def _merge(source: Path, edited: bytes, target: Path, old: str) -> str:
    released = target.read_bytes()
    if b"\0" in edited:
        target.with_name(f"{target.name}.orig").write_bytes(edited)
        return f"is binary and was edited: the edited one is {target}.orig"
    mine = source.with_name(f"{source.name}.edited")
    mine.write_bytes(edited)
    labels = ["before updating", "last update", "after updating"]
    command = ["git", "merge-file", "--stdout"]
    command += [part for label in labels for part in ("-L", label)]
    merged = subprocess.run([*command, mine, source, target], check=False, stdout=subprocess.PIPE)
    if merged.returncode < 0 or merged.returncode > 127:  # noqa: PLR2004 (git: errors are negative)
        raise SystemExit(f"git merge-file failed on {old}")
    target.write_bytes(merged.stdout)
    if merged.returncode == 0:
        return "moved, with the edits"
    _list_as_unmerged(target, [source.read_bytes(), edited, released])
    return "moved; the edits conflict with the new release, look for <<<<<<<"


def _list_as_unmerged(target: Path, versions: list[bytes]) -> None:
    path = _git("rev-parse", "--show-prefix").decode().strip() + target.as_posix()
    mode = "100755" if os.access(target, os.X_OK) else "100644"
    entries = [f"0 {'0' * 40}\t{path}"]
    for stage, content in enumerate(versions, start=1):
        blob = _git("hash-object", "-w", "--stdin", stdin=content).decode().strip()
        entries.append(f"{mode} {blob} {stage}\t{path}")
    _git("update-index", "--index-info", stdin="\n".join(entries).encode() + b"\n")


def _committed(path: str) -> bytes | None:
    """A file of the project's last commit, which Copier made sure holds all that there is."""
    if not _git("ls-tree", "HEAD", "--", path):
        return None
    return _git("show", f"HEAD:./{path}")


def _git(*arguments: str, stdin: bytes | None = None) -> bytes:
    command = ["git", *arguments]
    return subprocess.run(command, check=True, input=stdin, stdout=subprocess.PIPE).stdout


if __name__ == "__main__":
    main(*sys.argv[1:])
