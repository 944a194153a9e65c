"""A newer release is noticed, at most once a day, and silence where there is no answer."""

import os
import subprocess
import threading
from pathlib import Path

import pytest

from kit import live
from kit.live import Board, RequestMemory


@pytest.fixture
def answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The answers of a service of 0.9.0, whose source has releases up to 0.10.0."""
    source = tmp_path / "source"
    git = ("git", "-C", str(source), "-c", "user.name=Ada", "-c", "user.email=ada@example.com")
    subprocess.run(["git", "init", "-q", str(source)], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "Start"], check=True)
    for tag in ("v0.9.0", "v0.10.0", "v0.11.0rc1", "nightly"):
        subprocess.run([*git, "tag", tag], check=True)
    path = tmp_path / "answers.yml"
    path.write_text(f"# Written\n_commit: v0.9.0\n_src_path: {source}\nauthor: ''\n")
    monkeypatch.setattr(live, "ANSWERS", path)
    monkeypatch.setattr(live, "NEWEST", tmp_path / ".data" / "newest-release")
    return path


def look_up() -> None:
    """Look it up, and wait for the thread."""
    before = {*threading.enumerate()}
    live.look_up_release()
    for thread in {*threading.enumerate()} - before:
        thread.join(60)


@pytest.mark.usefixtures("answers", "test_database")
async def test_a_newer_one_is_on_the_board() -> None:
    assert live.newer_release() == ""
    look_up()
    assert live.newer_release() == "0.10.0"
    board = Board(RequestMemory())
    await board.refresh()
    [row] = next(panel.rows for panel in board.panels if panel.title == "Update")
    assert row == live.Row("0.10.0 is there", "uvx copier update")


def test_the_same_one_is_not(answers: Path) -> None:
    answers.write_text(answers.read_text().replace("v0.9.0", "v0.10.0-2-gabc1234"))
    look_up()
    assert live.newer_release() == ""


@pytest.mark.parametrize("change", [("_src_path: ", "_src_path: /nowhere"), ("_src_path", "_src")])
def test_without_an_answer_there_is_silence(answers: Path, change: tuple[str, str]) -> None:
    answers.write_text(answers.read_text().replace(*change))
    look_up()
    assert live.newer_release() == ""
    answers.unlink()
    assert live.newer_release() == ""


def test_it_is_asked_once_a_day(answers: Path) -> None:
    source = answers.read_text()
    answers.write_text(source.replace("_src_path: ", "_src_path: /nowhere"))
    look_up()
    answers.write_text(source)
    look_up()
    assert live.newer_release() == ""
    yesterday = live.NEWEST.stat().st_mtime - live.DAY_SECONDS - 1
    os.utime(live.NEWEST, (yesterday, yesterday))
    look_up()
    assert live.newer_release() == "0.10.0"
