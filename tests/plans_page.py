"""The refusal and the plans in `docs/stack/deployment.md`, computed by the service's own code.

Write it anew with `python -m tests.plans_page`, by a Python that has the service's dependencies.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
PAGE = REPOSITORY / "docs" / "stack" / "deployment.md"

BEGIN, END = "<!-- plans -->\n", "<!-- /plans -->"

PROGRAM = r"""
from itertools import count

from app.core.config import Settings
from kit.connections import (
    postgres_budget, postgres_pool_size, redis_budget, refuse_more_than_the_plan)
from kit.settings import StartupError

DEFAULTS = Settings.model_construct()

def most(setting, budget, settings):
    fits = (n for n in count(2) if budget(settings.model_copy(update={setting: n})).is_exceeded)
    return next(fits) - 1

def line(*cells):
    print("|", " | ".join(str(cell) for cell in cells), "|")

print("```text")
try:
    refuse_more_than_the_plan(
        DEFAULTS.model_copy(update={"API_INSTANCES": 2, "CELERY_WORKERS": 6}))
except StartupError as refusal:
    print("error:", refusal)
print("```\n\nWhat plans allow, computed by the code that refuses:\n")
line("plan", "connections", "most API processes, with 1 worker", "most workers, with 1 API process")
line("---", "---", "---", "---")
for budget, limit, plans in [
    (redis_budget, "REDIS_CONNECTION_LIMIT", {
        "Redis Cloud, free": 30, "Redis Cloud, smallest paid": 256, "Redis Flex, smallest": 1024}),
    (postgres_budget, "POSTGRES_CONNECTION_LIMIT", {
        "Supabase, session mode": 15, "Supabase, transaction mode": 200}),
]:
    for plan, connections in plans.items():
        settings = DEFAULTS.model_copy(update={limit: connections})
        line(plan, connections, *(
            most(setting, budget, settings) for setting in ("API_WORKERS", "CELERY_WORKERS")))
print()
line("`POSTGRES_POOL_SIZE`, computed, with", *(f"{n} API" for n in (1, 2, 3, 4, 6)))
line(*["---"] * 6)
for workers in (1, 3):
    for limit in (15, 200):
        update = {"POSTGRES_CONNECTION_LIMIT": limit, "CELERY_WORKERS": workers}
        settings = [
            DEFAULTS.model_copy(update=update | {"API_WORKERS": n}) for n in (1, 2, 3, 4, 6)]
        line(f"{workers} worker{'s' * (workers > 1)}, {limit} connections", *(
            "refused" if postgres_budget(each).is_exceeded else postgres_pool_size(each)
            for each in settings))
"""


def table(python: Sequence[str] = (sys.executable,), folder: Path = REPOSITORY / "template") -> str:
    """The refusal and the tables in Markdown.

    Args:
        python: the command of a Python that has the service's dependencies.
        folder: the service.
    """
    done = subprocess.run(
        [*python, "-c", PROGRAM],
        cwd=folder,
        # A test's own environment says nothing about a plan.
        env={name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return done.stdout


def written_table() -> str:
    """What the page holds now."""
    return PAGE.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]


def main() -> None:
    """Write the page's table anew."""
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}{table()}{END}{rest.partition(END)[2]}", encoding="utf-8")


if __name__ == "__main__":
    main()
