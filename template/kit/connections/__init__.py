"""Connections to Redis and PostgreSQL: the budget of the processes, and what they hold now."""

from kit.connections._budget import (
    postgres_budget,
    postgres_pool_size,
    postgres_remedy,
    redis_budget,
    redis_remedy,
    refuse_more_than_the_plan,
)
from kit.connections._processes import (
    Census,
    Holder,
    begin_process,
    count_postgres,
    count_redis,
    redis_clients,
    redis_limit,
    refuse_more_than_redis_gives,
)
