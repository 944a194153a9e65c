"""Manage the accounts of the admin from the command line.

`python -m kit.commands.admin_password set ada` sets a new password, and makes the account if need
be; with `--role reader` it can only read. `… revoke ada` disables the account and ends open
sessions.
"""

import argparse
from collections.abc import Sequence

from sqlmodel import Session

from kit.commands import command_session, run_command
from kit.models import AdminRole
from kit.security import disable_admin, generate_password, set_admin_password
from kit.settings import StartupError


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command.

    Raises:
        StartupError: when it cannot be done; the message says why.
    """
    options = _parser().parse_args(arguments)
    with command_session() as session:
        if options.command == "set":
            set_password(session, options.username, options.role)
        else:
            revoke(session, options.username)


def set_password(session: Session, username: str, role: str | None = None) -> None:
    """Generate a password for the administrator and print it, only this once.

    Raises:
        StartupError: for an invalid username or role.
    """
    if role and role not in list(AdminRole):
        raise StartupError(
            f"there is no role {role!r}, expected one of {', '.join(AdminRole)}: an editor changes "
            "rows, a reader only reads."
        )
    password = generate_password()
    try:
        user = set_admin_password(session, username, password, AdminRole(role) if role else None)
    except ValueError as error:
        raise StartupError(f"no password was set: {error}.") from None
    print(f"Password of the {user.role} {user.username!r} at /admin. It will not be shown again:")
    print(password)


def revoke(session: Session, username: str) -> None:
    """Disable the administrator's account."""
    try:
        disabled = disable_admin(session, username)
    except ValueError as error:
        raise StartupError(f"nothing was revoked: {error}.") from None
    if not disabled:
        raise StartupError(f"there is no active administrator {username!r}.")
    print(f"{username!r} can no longer log in, and open sessions have ended.")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m kit.commands.admin_password", description="Accounts of the admin."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    set_parser = commands.add_parser("set", help="set a new password; makes the account if need be")
    set_parser.add_argument("username")
    set_parser.add_argument("--role", help="editor or reader; without it, the role stays as it is")
    revoke_parser = commands.add_parser("revoke", help="disable the account and end its sessions")
    revoke_parser.add_argument("username")
    return parser


if __name__ == "__main__":
    run_command(main)
