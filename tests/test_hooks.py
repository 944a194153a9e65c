"""A release renames a file: what people had changed in it goes along.

By a table in hooks/moves, and by hooks/rename.py for the files that it is given. Rehearsed with two
releases of a small template, through `copier update` as its users run it.
"""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from copier import run_copy, run_update
from copier.errors import UnsafeTemplateError

from tests.repositories import REPOSITORY, commit_all, git

OLD = "app/price.py"
NEW = "app/pricing.py"

FIRST = """\
# {{ title }}

VAT = 19


def net(price):
    return price


def gross(price):
    return price * (100 + VAT) / 100


def label(price):
    return f"{price} EUR"
"""

# Renamed, and changed at the top: the tax.
SECOND = FIRST.replace("VAT = 19", "VAT = 21")

QUESTIONS = """\
_subdirectory: template
title:
  type: str
  default: Prices
"""

MOVES = {OLD: NEW} | {f"app/texts/{x}": f"app/words/{x}" for x in ("hello.txt", "logo.png")}
PAIRS = f', "{OLD}", "{NEW}", "app/texts", "app/words"'
MIGRATION = """\
_migrations:
  - version: v2.0.0
    when: "{{ _stage == 'after' }}"
    command: ["{{ _copier_python }}", "{{ _copier_conf.src_path }}/hooks/%s",
              "{{ _copier_conf.src_path }}", "{{ _copier_conf.answers_file }}"%s]
"""

Edit = Callable[[Path], None]


@pytest.fixture(params=["table", pytest.param("script", marks=pytest.mark.full)])
def migration(request: pytest.FixtureRequest) -> str:
    """The migration of the second release: by its table, or by the script with paths."""
    return MIGRATION % (("moves", "") if request.param == "table" else ("rename.py", PAIRS))


@pytest.fixture
def releases(migration: str, tmp_path: Path) -> Path:
    """A template with the tags v1.0.0 and v2.0.0; between them a file and a folder are renamed."""
    folder = tmp_path / "rehearsal"
    template = folder / "template"
    (template / "app/texts").mkdir(parents=True)
    (template / "{{_copier_conf.answers_file}}.jinja").write_text(
        "{{ _copier_answers | to_nice_yaml }}", encoding="utf-8"
    )
    (template / f"{OLD}.jinja").write_text(FIRST, encoding="utf-8")
    (template / "app/texts/hello.txt").write_text("one\ntwo\nthree\nfour\nfive\n", encoding="utf-8")
    (template / "app/texts/logo.png").write_bytes(b"\x89PNG\0one")
    (folder / "copier.yml").write_text(QUESTIONS, encoding="utf-8")
    commit_all(folder, "First release")
    git(folder, "tag", "v1.0.0")

    (template / f"{OLD}.jinja").unlink()
    (template / f"{NEW}.jinja").write_text(SECOND, encoding="utf-8")
    (template / "app/texts").rename(template / "app/words")
    (template / "app/words/hello.txt").write_text(
        "one\ntwo\nthree\nfour\nfive, new\n", encoding="utf-8"
    )
    shutil.copytree(REPOSITORY / "hooks", folder / "hooks")
    (folder / "hooks/moves/2.0.0.json").write_text(json.dumps({"moves": MOVES}), encoding="utf-8")
    (folder / "copier.yml").write_text(migration + QUESTIONS, encoding="utf-8")
    commit_all(folder, "Second release")
    git(folder, "tag", "v2.0.0")
    # As a forge serves it: clones may leave file contents behind until they are asked for.
    git(folder, "config", "uploadpack.allowFilter", "true")
    return folder


@pytest.fixture(params=["path", pytest.param("address", marks=pytest.mark.full)])
def source(request: pytest.FixtureRequest, releases: Path) -> str:
    """The template as a local path, and as an address that git clones from."""
    return str(releases) if request.param == "path" else f"git+file://{releases}"


@pytest.fixture
def project(source: str, tmp_path: Path) -> Path:
    """A committed project of the first release."""
    folder = tmp_path / "project"
    run_copy(
        source, folder, vcs_ref="v1.0.0", data={"title": "My # prices"}, defaults=True, quiet=True
    )
    commit_all(folder, "Start")
    return folder


def edit(path: Path, before: str, after: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert before in text
    path.write_text(text.replace(before, after), encoding="utf-8")


def update(project: Path) -> None:
    """Commit, then what `copier update --trust --defaults` does."""
    commit_all(project, "Work of the project's owner")
    run_update(project, defaults=True, overwrite=True, unsafe=True, quiet=True)


def content(path: Path) -> str:
    return path.read_text(encoding="utf-8")


EXPECTED = SECOND.replace("{{ title }}", "My # prices")


def test_an_edit_away_from_the_release_s_change_merges_without_markers(project: Path) -> None:
    edit(project / OLD, '"{price} EUR"', '"{price:.2f} €"')
    edit(project / "app/texts/hello.txt", "one\n", "one, mine\n")
    update(project)
    assert content(project / NEW) == EXPECTED.replace('"{price} EUR"', '"{price:.2f} €"')
    assert content(project / "app/words/hello.txt") == "one, mine\ntwo\nthree\nfour\nfive, new\n"
    assert not (project / OLD).exists()
    assert not (project / "app/texts").exists()
    assert "U" not in git(project, "status", "--porcelain")


def test_without_an_edit_the_new_release_s_file_is_there(project: Path) -> None:
    update(project)
    assert content(project / NEW) == EXPECTED
    assert (project / "app/words/logo.png").read_bytes() == b"\x89PNG\0one"
    assert not (project / OLD).exists()


def test_an_edit_of_the_same_line_shows_both_and_is_listed_as_unmerged(project: Path) -> None:
    edit(project / OLD, "VAT = 19", "VAT = 7")
    edit(project / OLD, '"{price} EUR"', '"{price:.2f} €"')
    update(project)
    text = content(project / NEW)
    assert "<<<<<<< before updating\nVAT = 7\n" in text
    assert "VAT = 21\n>>>>>>> after updating" in text
    assert '"{price:.2f} €"' in text
    assert f"AA {NEW}" in git(project, "status", "--porcelain") or (
        f"UU {NEW}" in git(project, "status", "--porcelain")
    )


def test_a_deleted_file_stays_deleted(project: Path) -> None:
    (project / OLD).unlink()
    (project / "app/texts/hello.txt").unlink()
    update(project)
    assert not (project / NEW).exists()
    assert not (project / "app/words/hello.txt").exists()
    assert (project / "app/words/logo.png").exists()


def test_a_file_of_the_owner_in_the_old_folder_stays(project: Path) -> None:
    (project / "app/texts/own.txt").write_text("mine\n", encoding="utf-8")
    update(project)
    assert content(project / "app/texts/own.txt") == "mine\n"


def test_an_edited_picture_is_kept_beside_the_new_one(project: Path) -> None:
    (project / "app/texts/logo.png").write_bytes(b"\x89PNG\0mine")
    update(project)
    kept = [path.read_bytes() for path in (project / "app").glob("*/logo.png*")]
    assert sorted(kept) == [b"\x89PNG\0mine", b"\x89PNG\0one"]


def test_a_project_in_a_folder_of_a_larger_repository(source: str, tmp_path: Path) -> None:
    (tmp_path / "all").mkdir()
    commit_all(tmp_path / "all", "Start")
    project = tmp_path / "all" / "service"
    run_copy(source, project, vcs_ref="v1.0.0", defaults=True, quiet=True)
    commit_all(tmp_path / "all", "Add a service")
    edit(project / OLD, "VAT = 19", "VAT = 7")
    commit_all(tmp_path / "all", "Work of the project's owner")
    run_update(project, defaults=True, overwrite=True, unsafe=True, quiet=True)
    assert "VAT = 7" in content(project / NEW)
    assert f"service/{NEW}" in git(tmp_path / "all", "diff", "--name-only", "--diff-filter=U")


def test_only_the_update_that_crosses_the_release_asks_for_trust(project: Path) -> None:
    with pytest.raises(UnsafeTemplateError, match="migrations"):
        run_update(project, defaults=True, overwrite=True, quiet=True)
    update(project)
    commit_all(project, "Update")
    run_update(project, defaults=True, overwrite=True, unsafe=False, quiet=True)
    assert git(project, "status", "--porcelain") == ""


def test_a_plain_rename_would_lose_the_edit(project: Path, releases: Path) -> None:
    """What the script is for: the same update without it."""
    (releases / "copier.yml").write_text(QUESTIONS, encoding="utf-8")
    commit_all(releases, "Second release, no migration")
    git(releases, "tag", "--force", "v2.0.0")
    edit(project / OLD, '"{price} EUR"', '"{price:.2f} €"')
    update(project)
    assert "€" not in content(project / NEW)


def test_wrong_use_says_what_is_right(tmp_path: Path) -> None:
    script = REPOSITORY / "hooks" / "rename.py"
    done = subprocess.run(
        ["python3", script, ".", ".copier-answers.yml", "only-one"],
        cwd=tmp_path,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    assert "OLD NEW" in done.stderr
