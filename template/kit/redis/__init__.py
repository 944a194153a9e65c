"""Redis: the process's connections, and Celery's transport on them."""

from kit.redis._pool import (
    CONNECT_TIMEOUT,
    COUNTS_KEY,
    SOCKET_TIMEOUT,
    RedisPoolBusyError,
    count_event,
    redis_client,
    run_redis_call,
    tls_options,
)
from kit.redis._transport import (
    BACKEND,
    BROKER_ATTEMPTS,
    CONTROL,
    DEAD_LETTERS_KEY,
    DELIVERY_COUNT,
    GIVEN_UP,
    REDELIVERED,
    SENT_AT,
    UNACKNOWLEDGED_KEY,
    UNKNOWN_SINCE,
    WAITING_CHECK_INTERVAL,
    DelayTooLongError,
    PayloadTooLargeError,
    TaskRefusedError,
    Transport,
    delivery_count,
    queue_keys,
    refuse_large_payload,
    refuse_long_delay,
    seconds_until,
)
