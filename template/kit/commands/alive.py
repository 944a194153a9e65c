"""`python -m kit.commands.alive worker`: check that this container's process is alive.

For health checks, so it imports little. The API has to answer; `worker` and `beat`, which answer no
requests, have to be connected to Redis: a heartbeat is a stronger sign, but a long task delays it.
"""

import argparse
import socket
import sys
from collections.abc import Sequence
from typing import Any
from urllib.request import ProxyHandler, build_opener

from kit.process import parse_process_name
from kit.settings import settings, tls_options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the check; returns the exit status: 0 when alive, else 1, with the reason printed."""
    parser = argparse.ArgumentParser(prog="python -m kit.commands.alive", description=__doc__)
    parser.add_argument("role", choices=["api", "worker", "beat"])
    role = parser.parse_args(arguments).role
    try:
        if role == "api":
            # Whatever proxy the environment names, it is for other machines.
            build_opener(ProxyHandler({})).open(f"{api_url()}/health/live", timeout=5).close()
            return 0
        if is_connected(role, socket.gethostname()):
            return 0
        problem = f"no {role} on this machine is connected to Redis"
    except OSError as error:
        problem = f"the API cannot be reached: {error}"
    print(problem, file=sys.stderr)
    return 1


def api_url() -> str:
    """The URL at which this machine reaches the API."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.API_HOST, settings.API_HOST)  # noqa: S104
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.API_PORT}"


def is_connected(role: str, host: str) -> bool:
    """Whether a process of this role and host is connected.

    True where Redis cannot be asked: it forbids the question, is away, or has no connection left.
    A process that is restarted for it would lose the task that it runs, and connect no sooner.
    """
    import redis  # noqa: PLC0415 (the API's check has no need of it)
    from redis.backoff import NoBackoff  # noqa: PLC0415
    from redis.retry import Retry  # noqa: PLC0415

    patience = {"socket_timeout": 5, "socket_connect_timeout": 5, "retry": Retry(NoBackoff(), 0)}
    options: Any = {"decode_responses": True, **patience, **tls_options(settings)}
    try:
        with redis.Redis.from_url(settings.REDIS_URL, **options) as client:
            try:
                names = [parse_process_name(each["name"]) for each in client.client_list()]
            except redis.ResponseError:
                return bool(client.ping())
    except redis.RedisError as error:
        print(f"Redis cannot be reached: {error}", file=sys.stderr)
        return True
    return any(name and (name.role, name.host) == (role, host) for name in names)


if __name__ == "__main__":
    sys.exit(main())
