"""The recipes of "Changing a table in production", carried out on tables with rows."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.documents import BLOCK, REPOSITORY
from tests.service import Service

pytestmark = pytest.mark.xdist_group("changing_tables")

PAGE = REPOSITORY / "docs" / "stack" / "changing-tables.md"
FOLDER = "alembic/versions/"
HEADER = '''"""{name}"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "{name}"
down_revision = {before!r}
branch_labels = {labels!r}
depends_on = {depends!r}

{code}
'''
CHANGES = 20
"""Recipes that the page has at least."""


def write_recipes(folder: Path) -> list[str]:
    """Write the recipes as revisions, in the order of the page; their names."""
    names: list[str] = []
    for _, title, code in BLOCK.findall(PAGE.read_text(encoding="utf-8")):
        if not title.startswith(FOLDER):
            continue
        before = names[-1] if names else None
        names.append(title.removeprefix(f"{FOLDER}…_").removesuffix(".py"))
        first = {"labels": ("service",), "depends": "core_0001"}
        fields = {"labels": None, "depends": None} if before else first
        text = HEADER.format(name=names[-1], before=before, code=code, **fields)
        (folder / f"{names[-1]}.py").write_text(text, encoding="utf-8")
    return names


@pytest.fixture
def recipes(service: Service) -> Iterator[list[str]]:
    """The names of the recipes, which are the service's revisions."""
    folder = service.folder / FOLDER
    kept = folder.with_name("kept")
    shutil.move(folder, kept)
    folder.mkdir()
    yield write_recipes(folder)
    shutil.rmtree(folder)
    shutil.move(kept, folder)


def test_each_recipe_works_with_rows_up_and_down(service: Service, recipes: list[str]) -> None:
    assert len(recipes) >= CHANGES
    service.run(".venv/bin/pytest", "tests/migrations", "-k", "works_with_rows")


def test_db_lint_finds_nothing_in_them(service: Service, recipes: list[str]) -> None:
    said = service.make("db-lint", "since=base")

    judged = re.search(r"(\d+) revisions, 0 findings", said)
    assert judged
    assert int(judged[1]) > len(recipes)  # those of the kit, too
