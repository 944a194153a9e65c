"""Commands for the database that Alembic lacks.

`python -m kit.commands.db status`, `… lint`, `… reset` and `… forget hotel`
"""

import argparse
import asyncio
from collections.abc import Sequence

from kit.commands import run_command
from kit.database import connect
from kit.migrations import (
    explain_ahead,
    explain_forks,
    explain_orphan,
    forget_extension,
    is_of_unknown_origin,
    load_metadata,
    read_state,
    refuse_production,
    reset_database,
    script_directory,
)
from kit.migrations.lint import find_unsafe, revisions_since
from kit.process import start_local_services
from kit.settings import StartupError, settings


def main(arguments: Sequence[str] | None = None) -> int | None:
    """Run the command, and return its exit status.

    Raises:
        StartupError: when it cannot be done; the message says why.
    """
    options = _parser().parse_args(arguments)
    start_local_services()
    if options.command == "reset":
        reset()
    elif options.command == "forget":
        asyncio.run(forget(options.extension))
    elif options.command == "lint":
        return asyncio.run(lint(options.since))
    else:
        asyncio.run(status())
    return None


async def status() -> None:
    """Print which revisions are applied, missing or unknown."""
    script = script_directory()
    async with connect() as connection:
        state = await connection.run_sync(read_state, script, load_metadata())
    for head in script.get_revisions(tuple(script.get_heads())):
        mark = "missing" if head.revision in state.missing else "applied"
        print(f"{mark:<8} {', '.join(sorted(head.branch_labels)):<16} {head.revision}: {head.doc}")
    for fork in explain_forks(script):
        print(fork)
    if state.missing and not state.is_ahead:
        print("Run `make db-upgrade` to apply the missing ones.")
    for extension in state.orphans:
        print(explain_orphan(extension))
    if state.is_ahead:
        print(explain_ahead(state))


async def lint(since: str) -> int:
    """Print what new revisions would do to tables in use, and what is safe."""
    script = script_directory()
    judged, commit = revisions_since(script, since)
    findings = await find_unsafe(script, judged) if judged else []
    for finding in findings:
        print(finding)
    which = "all revisions" if commit == "base" else f"what {commit} does not have"
    print(f"Judged {which}: {len(judged)} revisions, {len(findings)} findings.")
    if findings:
        print("To allow one, write why above it: `# db-lint: RULE: the reason`.")
    return 1 if findings else 0


def reset() -> None:
    """Empty the database and run all migrations, after a confirmation.

    The local login and token are created again: `make dev` may have printed them.

    Raises:
        StartupError: when it is a production database, or the answer is not its name.
    """
    # Asked outside of the event loop, which would keep Ctrl-C until the answer.
    with_host = asyncio.run(_check_before_reset())
    ask_for_name("All data of {} will be lost.", with_host=with_host)
    asyncio.run(_reset())
    if settings.is_local:
        from kit.commands.dev import create_local_logins  # noqa: PLC0415 (for development alone)

        create_local_logins()
    print("The database is empty and has all tables again.")


async def _check_before_reset() -> bool:
    async with connect() as connection:
        await connection.run_sync(refuse_production)
        return await connection.run_sync(is_of_unknown_origin)


async def _reset() -> None:
    async with connect() as connection:
        await connection.run_sync(reset_database, script_directory())


async def forget(extension: str) -> None:
    """Forget a removed extension, and keep its tables.

    Raises:
        StartupError: when there is no such extension, or it cannot be forgotten.
    """
    script = script_directory()
    async with connect() as connection, connection.begin():
        await connection.run_sync(forget_extension, script, load_metadata(), extension)
    print(f"The extension {extension} is forgotten; its tables and their rows are still there.")


def ask_for_name(consequence: str, *, with_host: bool = False) -> None:
    """Ask for the database's name, as the permission to change what is in it.

    Args:
        consequence: a sentence, with `{}` for the database.
        with_host: whether nothing says whose database it is, so that the host is asked for, too.

    Raises:
        StartupError: when the answer is another one.
    """
    name, host = settings.POSTGRES_DB, "this machine"
    if not settings.uses_local_postgres:
        host = f"{settings.POSTGRES_HOST}:{settings.POSTGRES_PORT}"
    warning = consequence.format(f"the database {name!r} on {host}")
    question = f"{warning} To continue, type its name: "
    if with_host:
        name = f"{name} on {host}"
        question = (
            "Nothing in this database says whether it is production's: it was migrated by SQL, or "
            f"restored without comments. {warning} To continue, type {name!r}: "
        )
    try:
        answer = input(question).strip()
    except EOFError:
        answer = ""
    if answer != name:
        raise StartupError(f"nothing was changed: the answer was not {name!r}.")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m kit.commands.db", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("status", help="which revisions the database has and which it lacks")
    commands.add_parser("reset", help="empty the database and run all migrations; asks first")
    lints = commands.add_parser("lint", help="what new revisions would do to tables in use")
    lints.add_argument("--since", default="", help="a commit, `base` for all; else origin's main")
    forgets = commands.add_parser("forget", help="forget a removed extension, and keep its tables")
    forgets.add_argument("extension", help="its name")
    return parser


if __name__ == "__main__":
    run_command(main)
