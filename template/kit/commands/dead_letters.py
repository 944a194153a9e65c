"""List the tasks that were given up, the newest first, and send them again or drop them.

`python -m kit.commands.dead_letters`, with `--send ID` or `--drop ID`; `all` stands for every id.
"""

import argparse
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from kit.commands import run_command
from kit.places import service
from kit.process import start_local_services
from kit.redis import DEAD_LETTERS_KEY, redis_client


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status: 1 when no dead letter has the id."""
    parser = argparse.ArgumentParser(
        prog="python -m kit.commands.dead_letters", description=__doc__
    )
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--send", metavar="ID", help="put it back in its queue")
    action.add_argument("--drop", metavar="ID", help="delete it")
    options = parser.parse_args(arguments)
    start_local_services()
    return _run(options.send, options.drop)


def _run(to_send: str | None, to_drop: str | None) -> int:
    chosen = to_send or to_drop or "all"
    stored: Any = redis_client().lrange(DEAD_LETTERS_KEY, 0, -1)
    found = [(letter, json.loads(letter)) for letter in stored]
    found = [(letter, read) for letter, read in found if chosen in ("all", _headers(read)["id"])]
    for letter, read in found:
        if to_send:
            service.celery_app.AsyncResult(_headers(read)["id"]).forget()
            with service.celery_app.connection_for_write() as connection:
                channel: Any = connection.default_channel
                channel.send_again(letter)
        elif to_drop:
            redis_client().lrem(DEAD_LETTERS_KEY, 1, letter)
        print("sent again: " if to_send else "dropped: " if to_drop else "", _line(read), sep="")
    if not found:
        print("no dead letters" if chosen == "all" else f"no dead letter has the id {chosen}")
    return 0 if found or chosen == "all" else 1


def _headers(letter: Any) -> dict[str, Any]:
    headers: dict[str, Any] = letter["message"][0]["headers"]
    return headers


def _line(letter: Any) -> str:
    headers = _headers(letter)
    moment = datetime.fromtimestamp(letter["given_up_at"], UTC)
    arguments = f"args={headers.get('argsrepr')} kwargs={headers.get('kwargsrepr')}"
    return (
        f"{headers['id']} {headers['task']} {arguments}\n"
        f"    {moment:%Y-%m-%d %H:%M:%S} UTC: {letter['reason']}"
    )


if __name__ == "__main__":
    run_command(main)
