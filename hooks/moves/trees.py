"""Files of the three versions that are merged, and of the project's folder."""

import os
from pathlib import Path

from hooks.rename import git, list_as_unmerged

Files = dict[str, bytes]
"""Contents by path, with `/` and relative to the project."""


def read_folder(folder: Path) -> Files:
    """All files below a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }


def read_commit() -> Files:
    """All files of the project's last commit, without links and submodules."""
    blobs: dict[str, str] = {}
    for entry in git("ls-tree", "-r", "-z", "HEAD").decode().split("\0"):
        if entry.startswith("100"):
            information, path = entry.split("\t", 1)
            blobs[path] = information.split()[2]
    return dict(zip(blobs, _contents(list(blobs.values())), strict=True))


def _contents(blobs: list[str]) -> list[bytes]:
    output = git("cat-file", "--batch", stdin="\n".join(blobs).encode() + b"\n") if blobs else b""
    found, at = [], 0
    for _ in blobs:
        end = output.index(b"\n", at)
        start, size = end + 1, int(output[at:end].split()[2])
        found.append(output[start : start + size])
        at = start + size + 1
    return found


def text_of(content: bytes | None) -> str | None:
    """A file's text; `None` where there is none, or where it is not one."""
    if content is None or b"\0" in content:
        return None
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return None


def write(path: str, content: bytes, like: Path | None = None) -> None:
    """Write a file of the project.

    Args:
        path: where.
        content: of the file.
        like: a file that a new one is to be executable like.
    """
    target = Path(path)
    is_new = not target.exists()
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    if is_new and like is not None and os.access(like, os.X_OK):
        target.chmod(0o755)


def remove(path: str) -> None:
    """Delete a file of the project, and the folders that it leaves empty."""
    target = Path(path)
    target.unlink(missing_ok=True)
    for folder in target.parents:
        if folder == Path() or not folder.is_dir():
            continue
        left = [each for each in folder.iterdir() if each.name != "__pycache__"]
        if left:
            break
        for each in folder.glob("__pycache__/*"):
            each.unlink()
        for each in [*folder.glob("__pycache__"), folder]:
            each.rmdir()


def list_conflicts(conflicts: dict[str, list[bytes]], settled: set[str]) -> None:
    """Make git's index list files as unmerged.

    Args:
        conflicts: base, edited and released version by path.
        settled: other files, which are listed as merged.
    """
    unmerged = git("diff", "--name-only", "--relative", "-z", "--diff-filter=U").decode()
    for path in filter(None, unmerged.split("\0")):
        if path in settled and path not in conflicts:
            _list_as_committed(path)
    for path, versions in conflicts.items():
        list_as_unmerged(Path(path), versions)


def _list_as_committed(path: str) -> None:
    whole = git("rev-parse", "--show-prefix").decode().strip() + path
    entries = [f"0 {'0' * 40}\t{whole}"]
    if committed := git("ls-tree", "HEAD", "--", path).decode().strip():
        mode, _, blob = committed.split("\t")[0].split()
        entries.append(f"{mode} {blob} 0\t{whole}")
    git("update-index", "--index-info", stdin="\n".join(entries).encode() + b"\n")
