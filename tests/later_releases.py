"""A template with a future: releases after the working tree, of every kind of change they may hold.

- 0.1.0: the working tree.
- 0.2.0: changes lines of the kit, of the owner's files, of an extension and of the project's
  metadata, adds a column, a file, a question and an extension.
- 0.3.0: changes more lines, takes a file away and renames another, with a migration of Copier's.
"""

from pathlib import Path

from tests.repositories import commit_all, edit, git

FIRST, SECOND, THIRD = RELEASES = ("v0.1.0", "v0.2.0", "v0.3.0")
"""Tags, the oldest first."""

ADDED_EXTENSION = "harbour"
"""An extension that can be chosen from the second release on."""

ADDED_QUESTION = "motto"
"""A question that the second release adds."""

RENAMED = ("AGENTS.md", "CONTRIBUTING.md")
"""What a file is called before and from the third release on."""

CHANGED = (
    "app/main.py",
    "kit/lifespan.py",
    "kit/process.py",
    "app/extensions/hotel/models.py",
    "app/extensions/_example/models.py",
    "Makefile",
    "kit/kit.mk",
    "README.md",
    "NEWS.md",
    ".editorconfig",
    *RENAMED,
)
"""What the releases change, as a project has it."""

_HARBOUR = {
    "__init__.py": '"""Ships."""\n',
    "README.md": "# Harbour\n\nShips and their berths.\n",
    "tests/test_harbour.py": "def test_harbour() -> None: ...\n",
}

_DEPOSITS = '''\
"""Deposits."""

import sqlalchemy as sa
from alembic import op

revision = "hotel_0002"
down_revision = "hotel_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("hotel_booking", sa.Column("deposit", sa.Integer(), nullable=True))


def downgrade() -> None:
    op.drop_column("hotel_booking", "deposit")
'''

_MIGRATION = f"""\
  - version: {THIRD}
    when: "{{{{ _stage == 'after' }}}}"
    command: ["{{{{ _copier_python }}}}", "{{{{ _copier_conf.src_path }}}}/hooks/rename.py",
              "{{{{ _copier_conf.src_path }}}}", "{{{{ _copier_conf.answers_file }}}}",
              "{RENAMED[0]}", "{RENAMED[1]}"]
"""


def clone_with_later_releases(template: Path, destination: Path) -> Path:
    """A clone of the template, whose one tag is the first release, with the later ones in it."""
    git(template, "clone", "--quiet", ".", str(destination))
    _second(destination)
    _release(destination, SECOND)
    _third(destination)
    _release(destination, THIRD)
    return destination


def plain_copy(releases: Path, release: str, destination: Path) -> Path:
    """One release without its repository, which is rendered faster."""
    destination.mkdir(parents=True)
    git(releases, "worktree", "add", "--quiet", "--detach", str(destination), release)
    (destination / ".git").unlink()
    git(releases, "worktree", "prune")
    return destination


def take_deposits(template: Path) -> None:
    """Change an extension as a release may: the hotel's bookings get a column."""
    hotel = template / "extensions_catalog" / "hotel"
    announced = "    announced_at: datetime | None = Field("
    deposit = "    deposit: int | None = Field(default=None)\n"
    edit(hotel / "models.py", announced, f"{deposit}{announced}")
    _write(hotel / "migrations" / "hotel_0002_deposits.py", _DEPOSITS)


def _second(folder: Path) -> None:
    catalogue, template = folder / "extensions_catalog", folder / "template"
    edit(template / "app/main.py", '"""The service:', '"""The whole service:')
    edit(template / "kit/lifespan.py", '"""', '"""From start to end. ')
    edit(catalogue / "hotel/models.py", "from datetime", "# Times are UTC.\nfrom datetime")
    take_deposits(folder)
    edit(catalogue / "_example/models.py", '"""', '"""As good as any: ')
    edit(template / "pyproject.toml.jinja", "T00:00:00Z", "T12:00:00Z")
    edit(template / f"{RENAMED[0]}.jinja", "## Check a change", "## Check each change")
    edit(template / "README.md.jinja", "## Start", "## Begin")
    _write(template / "NEWS.md", "# News\n\nOne.\n\nTwo.\n\nThree.\n")

    for name, text in _HARBOUR.items():
        _write(catalogue / ADDED_EXTENSION / name, text)
    edit(
        folder / "copier.yml",
        "\n    hotel: ",
        f"\n    {ADDED_EXTENSION}: ships and their berths\n    hotel: ",
    )
    edit(folder / "copier.yml", "\n    - ci\n", f"\n    - ci\n    - {ADDED_QUESTION}\n")
    edit(
        folder / "copier.yml",
        "\nci:\n",
        f"\n{ADDED_QUESTION}:\n  type: str\n  help: What drives it?\n  default: Onwards\n\nci:\n",
    )
    edit(
        template / "pyproject.toml.jinja",
        "[tool.uv]\n",
        f"[tool.motto]\nmotto = {{{{ {ADDED_QUESTION} | to_json }}}}\n\n[tool.uv]\n",
    )


def _third(folder: Path) -> None:
    catalogue, template = folder / "extensions_catalog", folder / "template"
    edit(template / "kit/process.py", '"""', '"""What is logged, and how: ')
    edit(template / "kit/kit.mk", "## list the targets", "## list all targets")
    edit(template / "Makefile", "# --- Yours ---", "# --- Your own ---")
    edit(template / "NEWS.md", "Two.", "Twice.")
    edit(catalogue / "hotel/models.py", "# Times are UTC.\n", "# All times are UTC.\n")
    (template / ".editorconfig").unlink()
    (template / f"{RENAMED[0]}.jinja").rename(template / f"{RENAMED[1]}.jinja")
    edit(template / f"{RENAMED[1]}.jinja", "## Rules", "## The rules")
    edit(folder / "copier.yml", "\n_migrations:\n", f"\n_migrations:\n{_MIGRATION}")


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _release(folder: Path, tag: str) -> None:
    commit_all(folder, f"Release {tag}")
    git(folder, "tag", tag)
