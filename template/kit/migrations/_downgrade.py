"""Confirmation before a downgrade, in which Alembic also reverts all that depends on the target."""

import re
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
        StartupError: when the target names no branch where several are applied, when the branch
            has no revision or no single one to step back over, or when the answer is not yes.
    """
    if target.startswith("-") and len(rows) > 1:
        raise StartupError(_explain_ambiguity(script, rows))
    branch, _, step = target.rpartition("@")
    if re.fullmatch(r"-\d+", step):
        _refuse_impossible_step(script, rows, branch, -int(step))
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
            f"Run it in a terminal, or as `make db-downgrade to={target} yes=1`."
        )
    if input(f"Warning: {summary}\nContinue? [y/N] ").strip().lower() not in ("y", "yes"):
        raise StartupError("nothing was changed.")


def _refuse_impossible_step(
    script: ScriptDirectory, rows: Collection[str], branch: str, steps: int
) -> None:
    """Refuse what Alembic would call an ambiguous walk, or an unknown branch."""
    known = {revision.revision for revision in script.walk_revisions()}
    current = script.get_all_current(tuple(known.intersection(rows)))
    joined = {
        tip.revision
        for tip in current
        if branch in tip.branch_labels or (not branch and tip.revision in rows)
    }
    if branch and not joined:
        raise StartupError(f"no revision of the branch {branch} is applied: nothing to revert.")
    for _ in range(steps):
        if len(joined) == 1:
            tip = script.get_revision(joined.pop())
            joined = set(tip._versioned_down_revisions)  # noqa: SLF001 (down_revision as a tuple)
    if len(joined) > 1:
        lines = [list(script.iterate_revisions(revision, "base")) for revision in joined]
        labels = lines[0][0].branch_labels
        shared = set(lines[0]).intersection(*lines[1:])
        of_branch = (
            each.revision for each in lines[0] if each in shared and labels & each.branch_labels
        )
        before = next(of_branch, f"{min(labels)}@base")
        raise StartupError(
            f"there is no single revision to go back to: {' and '.join(sorted(joined))} stand "
            f"beside each other. To revert both, run `make db-downgrade to={before}`."
        )


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
        "`make db-downgrade`" if branch == SERVICE else f"`make db-downgrade extension={branch}`"
        for branch in branches
    ]
    return (
        f"several branches are applied: {', '.join(branches)}. Name the one to revert: "
        f"{' or '.join(commands)}."
    )
