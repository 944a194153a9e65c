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
        render_release(template, _committed(answers_file), os.environ["VERSION_FROM"], base)
        for old, new in zip(paths[::2], paths[1::2], strict=True):
            for old_file, new_file in _files(base, old, new):
                print(f"{old_file} -> {new_file}: {_carry_over(base, old_file, new_file)}")


def render_release(template: str, answers: bytes | None, version: str, destination: Path) -> None:
    """Render a release of the template as a fresh copy.

    Args:
        template: the template's repository.
        answers: content of an answers file, if there is one.
        version: a tag or commit of the template.
        destination: where the copy goes; the answers are written beside it.

    Raises:
        subprocess.CalledProcessError: when Copier fails.
    """
    file = destination.with_name(f"{destination.name}.answers.yml")
    file.write_bytes(answers or b"{}")
    # A copy needs no trust, since the template has migrations but no tasks.
    command = [sys.executable, "-m", "copier", "copy", "--quiet", "--defaults"]
    command += ["--vcs-ref", version, "--data-file", str(file)]
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
    # What is still there belongs to the new release too, or to files that updates leave alone.
    if Path(old).exists():
        return f"{old} is still there, so both stay; carry over what you changed by hand"
    edited = _committed(old)
    if edited is None:
        target.unlink()
        return "was deleted in this project and stays so"
    if edited == source.read_bytes():
        return "moved"
    return _merge_into(target, source.read_bytes(), edited)


def _merge_into(target: Path, base: bytes, edited: bytes) -> str:
    if b"\0" in edited:
        target.with_name(f"{target.name}.orig").write_bytes(edited)
        return f"is binary and was edited: the edited one is {target}.orig"
    released = target.read_bytes()
    merged, has_conflicts = merge(base, edited, released)
    target.write_bytes(merged)
    if not has_conflicts:
        return "moved, with the edits"
    list_as_unmerged(target, [base, edited, released])
    return "moved; the edits conflict with the new release, look for <<<<<<<"


def merge(base: bytes, edited: bytes, released: bytes) -> tuple[bytes, bool]:
    """Merge three versions of a text; the result, and whether it has conflict markers.

    Raises:
        SystemExit: when git fails.
    """
    labels = ["before updating", "last update", "after updating"]
    command = ["git", "merge-file", "--stdout"]
    command += [part for label in labels for part in ("-L", label)]
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, name) for name in ("edited", "base", "released")]
        for file, content in zip(files, (edited, base, released), strict=True):
            file.write_bytes(content)
        done = subprocess.run([*command, *files], check=False, stdout=subprocess.PIPE)
    if done.returncode < 0 or done.returncode > 127:  # noqa: PLR2004 (git: errors are negative)
        raise SystemExit("git merge-file failed")
    return done.stdout, done.returncode > 0


def list_as_unmerged(target: Path, versions: list[bytes]) -> None:
    """List a file as unmerged in git's index: "both modified" in `git status`.

    Args:
        target: the file, from the current directory.
        versions: the base, the edited and the released one.
    """
    path = git("rev-parse", "--show-prefix").decode().strip() + target.as_posix()
    mode = "100755" if os.access(target, os.X_OK) else "100644"
    entries = [f"0 {'0' * 40}\t{path}"]
    for stage, content in enumerate(versions, start=1):
        blob = git("hash-object", "-w", "--stdin", stdin=content).decode().strip()
        entries.append(f"{mode} {blob} {stage}\t{path}")
    git("update-index", "--index-info", stdin="\n".join(entries).encode() + b"\n")


def _committed(path: str) -> bytes | None:
    """A file of the project's last commit, which Copier made sure holds all that there is."""
    if not git("ls-tree", "HEAD", "--", path):
        return None
    return git("show", f"HEAD:./{path}")


def git(*arguments: str, stdin: bytes | None = None) -> bytes:
    """Run git in the current directory; its output."""
    command = ["git", *arguments]
    return subprocess.run(command, check=True, input=stdin, stdout=subprocess.PIPE).stdout


if __name__ == "__main__":
    main(*sys.argv[1:])
