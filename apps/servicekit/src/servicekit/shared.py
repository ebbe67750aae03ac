"""The Redis that services share, which may vanish at any time: a client that gives up early and does not insist."""

import logging
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from servicekit.settings import Cache

log = logging.getLogger(__name__)
ANSWER_S = 0.1
"""Longer than that, Redis is no help."""
REFUSED = ResponseError
"""Error by which Redis refuses one command, such as of another type than its key."""
AWAY = (RedisError, OSError, TimeoutError)
"""Errors that say that Redis does not answer."""


def connect(settings: Cache) -> Any:
    """A client, which connects on first use."""
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
    """Close a client, whether Redis is still there or not."""
    try:
        await redis.aclose()
    except AWAY as error:
        where = {"address": settings.host, "port": settings.port, "reason": f"{type(error).__name__}: {error}"}
        log.warning("Redis went away before its connections were closed", extra=where)
