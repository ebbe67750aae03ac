"""The pool of connections to Postgres, and what its errors mean for a request."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
from servicekit.problems import unavailable

from user_service.settings import Database

CONNECT_TIMEOUT_S = 2.0
STATEMENT_TIMEOUT_S = 5.0
AWAY = (OSError, TimeoutError, asyncpg.PostgresConnectionError, asyncpg.InterfaceError, asyncpg.CannotConnectNowError,
        asyncpg.TooManyConnectionsError, asyncpg.AdminShutdownError)  # fmt: skip
"""Errors that say that the database is away, not that the statement was wrong."""


class Postgres:
    """A pool that is there even while the database is not.

    Args:
        settings: of the database.
    """

    def __init__(self, settings: Database) -> None:
        self.settings = settings
        self._pool: Any = None

    async def open(self) -> None:
        """Make the pool; it connects on first use."""
        self._pool = await asyncpg.create_pool(  # pyright: ignore[reportUnknownMemberType]
            host=self.settings.host,
            port=self.settings.port,
            user=self.settings.username,
            password=self.settings.password.get_secret_value(),
            database=self.settings.name,
            min_size=0,
            max_size=self.settings.pool.size,
            timeout=CONNECT_TIMEOUT_S,
            command_timeout=STATEMENT_TIMEOUT_S,
            server_settings={
                "application_name": "user-service",
                "statement_timeout": str(int(STATEMENT_TIMEOUT_S * 1000)),
            },
        )

    async def close(self) -> None:
        """Close what is open, by force where it does not end soon."""
        try:
            async with asyncio.timeout(STATEMENT_TIMEOUT_S):
                await self._pool.close()
        except TimeoutError:
            self._pool.terminate()

    @asynccontextmanager
    async def connection(self) -> AsyncGenerator[Any]:
        """A connection of the pool.

        Raises:
            Problem: 503, when the database is away.
        """
        try:
            async with self._pool.acquire(timeout=CONNECT_TIMEOUT_S) as connection:
                yield connection
        except AWAY as error:
            raise unavailable("the database is away for the moment") from error

    async def ping(self) -> None:
        """Raise when the database does not answer."""
        async with self._pool.acquire(timeout=CONNECT_TIMEOUT_S) as connection:
            await connection.fetchval("SELECT 1")
