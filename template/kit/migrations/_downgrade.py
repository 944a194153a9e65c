"""Confirmation before a downgrade, in which Alembic also reverts all that depends on the target."""

import sys
from collections.abc import Collection

from alembic.script import Script, ScriptDirectory
from alembic.script.revision import RevisionError

from kit.migrations._branches import SERVICE
from kit.settings import StartupError


def confirm_downgrade(
    script: ScriptDirectory, rows: Collection[str], target: str, *, is_confirmed: bool
) -> None:
    """Ask before a downgrade that reverts more than the branch it names.

    Args:
        script: the revisions.
        rows: of `alembic_version`.
        target: the downgrade's target, as `-1`, `hotel@base` or a revision id.
        is_confirmed: whether it was confirmed beforehand, with `-x yes`.

    Raises:
        StartupError: when the target names no branch where several are applied, or the answer is
            not yes.
    """
    if target.startswith("-") and len(rows) > 1:
        raise StartupError(_explain_ambiguity(script, rows))
    if not (revisions := _revisions_to_go(script, rows, target)):
        return
    named = _named_branches(script, target)
    more = [revision for revision in revisions if not named & revision.branch_labels]
    if not more or is_confirmed:
        return
    losses = [f"  {revision.revision}: {revision.doc}" for revision in revisions]
    summary = "\n".join(["the downgrade reverts, with the data in their tables:", *losses])
    if not sys.stdin.isatty():
        raise StartupError(
            f"nothing was changed, since this needs a confirmation: {summary}\n"
            f"Run it in a terminal, or as `uv run alembic -x yes downgrade {target}`."
        )
    if input(f"Warning: {summary}\nContinue? [y/N] ").strip().lower() not in ("y", "yes"):
        raise StartupError("nothing was changed.")


def _revisions_to_go(script: ScriptDirectory, rows: Collection[str], target: str) -> list[Script]:
    try:
        return list(script.iterate_revisions(tuple(rows), target, select_for_downgrade=True))
    except RevisionError:
        # Alembic has a message for an impossible target.
        return []


def _named_branches(script: ScriptDirectory, target: str) -> set[str]:
    branch, separator, _ = target.partition("@")
    if separator:
        return {branch}
    if target == "base" or target.startswith("-"):
        return {SERVICE}
    return set(script.get_revision(target).branch_labels)


def _explain_ambiguity(script: ScriptDirectory, rows: Collection[str]) -> str:
    branches = sorted({label for row in rows for label in script.get_revision(row).branch_labels})
    commands = [
        "`uv run alembic downgrade service@-1`"
        if branch == SERVICE
        else f"`make db-downgrade extension={branch}`"
        for branch in branches
    ]
    return (
        f"several branches are applied: {', '.join(branches)}. Name the one to revert: "
        f"{' or '.join(commands)}."
    )
