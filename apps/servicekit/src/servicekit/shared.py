"""The Redis that services share, which may vanish at any time: a client that gives up early and does not insist."""

from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from servicekit.settings import Cache

ANSWER_S = 0.1
"""Longer than that, Redis is no help."""


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
