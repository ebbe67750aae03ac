"""The Redis that services share, which may fail at any time: a client with short timeouts and no retries."""

import logging
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from servicekit.settings import Cache

log = logging.getLogger(__name__)
ANSWER_S = 0.1
"""Seconds for a response: a slower Redis is of no use."""
REFUSED = ResponseError
"""Error with which Redis refuses a single command, such as one for another type than its key has."""
AWAY = (RedisError, OSError, TimeoutError)
"""Errors of a Redis that does not answer."""


def connect(settings: Cache) -> Any:
    """Return a client, which connects on first use."""
    return Redis(
        host=settings.host or "",
        port=settings.port,
        password=settings.password.get_secret_value() or None,
        socket_timeout=ANSWER_S,
        socket_connect_timeout=ANSWER_S,
        retry=Retry(NoBackoff(), 0),
        protocol=2,
    )


async def close(redis: Any, settings: Cache) -> None:
    """Close a client, whether or not Redis is reachable."""
    try:
        await redis.aclose()
    except AWAY as error:
        where = {"address": settings.host, "port": settings.port, "reason": f"{type(error).__name__}: {error}"}
        log.warning("Redis went away before its connections were closed", extra=where)
