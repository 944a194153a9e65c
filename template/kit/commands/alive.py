"""`python -m kit.commands.alive worker`: check that this container's process is alive.

For health checks. The API has to answer; `worker` and `beat`, which answer no requests, have to be
connected to Redis, which is asked on one connection for a moment. A heartbeat would be the stronger
sign, but a long task delays it. It runs every minute or more often, so it imports little.
"""

import argparse
import socket
import sys
from collections.abc import Sequence
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from kit.process import parse_process_name
from kit.settings import settings, tls_options

SECONDS = 5
"""How long the check waits for the API or for Redis."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the check; returns the exit status: 0 when alive, else 1, with the reason printed."""
    parser = argparse.ArgumentParser(prog="python -m kit.commands.alive", description=__doc__)
    parser.add_argument("role", choices=["api", "worker", "beat"])
    role = parser.parse_args(arguments).role
    try:
        if answers() if role == "api" else is_connected(role, socket.gethostname()):
            return 0
        problem = f"no {role} on this machine is connected to Redis"
    except redis.RedisError as error:
        problem = f"Redis cannot be reached: {error}"
    except (OSError, HTTPException) as error:
        problem = f"the API cannot be reached: {error}"
    print(problem, file=sys.stderr)
    return 1


def answers() -> bool:
    """Whether the API answers where it listens; raises `OSError` or `HTTPException` otherwise."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.API_HOST, settings.API_HOST)  # noqa: S104
    connection = HTTPConnection(host, settings.API_PORT, timeout=SECONDS)
    connection.request("GET", "/health/live")
    response = connection.getresponse()
    if response.status != HTTPStatus.OK:
        raise HTTPException(f"its answer is {response.status}")
    return True


def is_connected(role: str, host: str) -> bool:
    """Whether a process of this role and host is connected; true where Redis forbids the question.

    Raises:
        redis.RedisError: when Redis cannot be reached.
    """
    with redis.Redis.from_url(
        settings.REDIS_URL,
        socket_timeout=SECONDS,
        socket_connect_timeout=SECONDS,
        decode_responses=True,
        retry=Retry(NoBackoff(), 0),
        **tls_options(settings),
    ) as client:
        try:
            names = [parse_process_name(each["name"]) for each in client.client_list()]
        except redis.ResponseError:
            return bool(client.ping())
    return any(name and (name.role, name.host) == (role, host) for name in names)


if __name__ == "__main__":
    sys.exit(main())
