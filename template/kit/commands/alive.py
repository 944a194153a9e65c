"""`python -m kit.commands.alive worker`: check that this container's worker is connected to Redis.

For health checks of `worker` and `beat`, which answer no requests. It asks Redis on one connection
for a moment. A heartbeat would be the stronger sign, but a long task delays it.
"""

import argparse
import socket
import sys
from collections.abc import Sequence

import redis

from kit.commands import run_command
from kit.connections import redis_clients
from kit.redis import redis_client


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the check; returns the exit status: 0 when connected, else 1, with the reason printed."""
    parser = argparse.ArgumentParser(prog="python -m kit.commands.alive", description=__doc__)
    parser.add_argument("role", choices=["worker", "beat"])
    role = parser.parse_args(arguments).role
    try:
        connected = is_connected(role, socket.gethostname())
    except redis.RedisError as error:
        print(f"Redis cannot be reached: {error}", file=sys.stderr)
        return 1
    if not connected:
        print(f"no {role} on this machine is connected to Redis", file=sys.stderr)
    return 0 if connected else 1


def is_connected(role: str, host: str) -> bool:
    """Whether a process of this role and host is connected; true where Redis forbids the question.

    Raises:
        redis.RedisError: when Redis cannot be reached.
    """
    client = redis_client()
    clients = redis_clients(client)
    if clients is None:
        return bool(client.ping())
    return any(name and (name.role, name.host) == (role, host) for name in clients)


if __name__ == "__main__":
    run_command(main)
