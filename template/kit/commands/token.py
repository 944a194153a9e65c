"""Manage API tokens from the command line.

`python -m kit.commands.token create billing-job --expires 90d --scopes orders:read`, `… list`,
`… revoke billing-job`
"""

import argparse
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from sqlmodel import Session, col, select

from kit.commands import command_session, run_command
from kit.models import ApiToken
from kit.places import service
from kit.security import (
    ALL_SCOPES,
    DEFAULT_SCOPE,
    NEW_TOKENS_SCOPES,
    create_api_token,
    revoke_api_token,
    routes_and_callers,
)
from kit.settings import StartupError

_DURATION = re.compile(r"(?P<count>\d{1,4})(?P<unit>[hdw])")
_UNITS = {"h": "hours", "d": "days", "w": "weeks"}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command.

    Raises:
        StartupError: when it cannot be done; the message says why.
    """
    options = _parser().parse_args(arguments)
    with command_session() as session:
        if options.command == "create":
            create(session, options.name, options.expires, options.scopes)
        elif options.command == "revoke":
            revoke(session, options.name)
        else:
            show(session)


def create(session: Session, name: str, expires: str = "", scopes: str = "") -> None:
    """Make a token and print it, only this once.

    Raises:
        StartupError: for an invalid name or expiry, or a scope that no route names.
    """
    wanted = re.split(r"[\s,]+", scopes.strip(", ")) if scopes else NEW_TOKENS_SCOPES
    try:
        _check_scopes({*wanted})
        expires_at = parse_expiry(expires) if expires else None
        token = create_api_token(session, name, expires_at, {*wanted})
    except ValueError as error:
        raise StartupError(f"no token was made: {error}.") from None
    meaning = "" if scopes else " (routes that name no scope, and /api/tasks)"
    print(f"Token {name!r}, {_until(expires_at)}, scopes {', '.join(wanted)}{meaning}. ", end="")
    print("It will not be shown again:")
    print(token)


def _check_scopes(scopes: set[str]) -> None:
    policies = [policy for _, policy in routes_and_callers(service.application)]
    named = {policy.scope for policy in policies if policy} | {DEFAULT_SCOPE}
    if unknown := sorted(scopes - named - {ALL_SCOPES}):
        raise ValueError(
            f"no route has the scope {', '.join(unknown)}; there are "
            f"{', '.join(sorted(named))}, and * for all of them"
        )


def revoke(session: Session, name: str) -> None:
    """Revoke the token of this name.

    Raises:
        StartupError: when there is none in use.
    """
    if not revoke_api_token(session, name):
        raise StartupError(f"there is no token {name!r} in use; `make token-list` shows them all.")
    print(f"Token {name!r} is revoked; within a minute every process refuses it.")


def show(session: Session) -> None:
    """Print every token, with its state and last use."""
    tokens = session.exec(select(ApiToken).order_by(col(ApiToken.name))).all()
    if not tokens:
        print("There are no tokens; `make token name=…` makes one.")
    for token in tokens:
        used = f"last used {token.last_used_at:%Y-%m-%d %H:%M}" if token.last_used_at else "unused"
        state = "revoked" if token.revoked_at else _until(token.expires_at)
        scopes = ", ".join(token.scopes) or "no scope"
        print(f"{token.name:<30}  {token.hint}…  {state:<22}  {used:<26}  {scopes}")


def parse_expiry(text: str) -> datetime:
    """Parse an expiry: `90d`, `12h`, `2w`, `2027-01-31` (its first moment, UTC) or an ISO time.

    Raises:
        ValueError: for any other text.
    """
    if match := _DURATION.fullmatch(text):
        return datetime.now(UTC) + timedelta(**{_UNITS[match["unit"]]: int(match["count"])})
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(
            f"{text!r} is not an expiry, expected for example 90d, 12h, 2w or 2027-01-31"
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _until(expires_at: datetime | None) -> str:
    return f"expires {expires_at:%Y-%m-%d %H:%M}" if expires_at else "without expiry"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m kit.commands.token", description="API tokens.")
    commands = parser.add_subparsers(dest="command", required=True)
    create_parser = commands.add_parser("create", help="make a token and print it")
    create_parser.add_argument("name", help="who will use it, for example billing-job")
    create_parser.add_argument("--expires", default="", help="90d, 12h, 2w or 2027-01-31")
    create_parser.add_argument("--scopes", default="", help="such as orders:read,orders:write")
    commands.add_parser("list", help="show every token")
    revoke_parser = commands.add_parser("revoke", help="revoke a token")
    revoke_parser.add_argument("name")
    return parser


if __name__ == "__main__":
    run_command(main)
