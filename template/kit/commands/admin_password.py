"""Manage the accounts of the admin from the command line.

`python -m kit.commands.admin_password set ada` sets a new password, and makes the account if need
be; `… revoke ada` disables the account and ends open sessions.
"""

import argparse
from collections.abc import Sequence

from sqlmodel import Session

from kit.commands import command_session, run_command
from kit.security import disable_admin, generate_password, set_admin_password
from kit.settings import StartupError


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command.

    Raises:
        StartupError: when it cannot be done; the message says why.
    """
    parser = argparse.ArgumentParser(
        prog="python -m kit.commands.admin_password", description=__doc__
    )
    parser.add_argument("command", choices=["set", "revoke"])
    parser.add_argument("username")
    options = parser.parse_args(arguments)
    run = set_password if options.command == "set" else revoke
    with command_session() as session:
        run(session, options.username)


def set_password(session: Session, username: str) -> None:
    """Generate a password for the administrator and print it, only this once."""
    password = generate_password()
    try:
        user = set_admin_password(session, username, password)
    except ValueError as error:
        raise StartupError(f"no password was set: {error}.") from None
    print(f"Password of {user.username!r} at /admin. It will not be shown again:")
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


if __name__ == "__main__":
    run_command(main)
