"""Reads who is connected to Redis: all that ask for `CLIENT LIST` ask here."""

from typing import NamedTuple

import redis

from kit.process import ProcessName, parse_process_name


class RedisClient(NamedTuple):
    """One connection to Redis."""

    id: int
    """The server counts them up."""
    process: ProcessName | None
    """Whose it is; None of a stranger, which carries no name of ours."""


def redis_clients(client: redis.Redis) -> list[RedisClient] | None:
    """List every connection to Redis; None where the plan forbids `CLIENT LIST`.

    Raises:
        redis.RedisError: when Redis cannot be reached.
    """
    try:
        rows = client.client_list()
    except redis.ResponseError:
        return None
    return [RedisClient(int(row["id"]), parse_process_name(row["name"])) for row in rows]
