"""The pool of connections to Postgres, what its errors mean for a request, and what may be tried again."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import asyncpg
import stamina
from prometheus_client import Gauge
from servicekit.problems import unavailable
from servicekit.tracing import step

from user_service.settings import Database

log = logging.getLogger(__name__)
LOST = (OSError, TimeoutError, asyncpg.PostgresConnectionError, asyncpg.InterfaceError, asyncpg.CannotConnectNowError,
        asyncpg.TooManyConnectionsError, asyncpg.AdminShutdownError, asyncpg.CrashShutdownError,
        asyncpg.InternalClientError)  # fmt: skip
"""Errors that say that the connection is lost or cannot be had, not that the statement was wrong.

InternalClientError is how a connection is met of which the server has just taken leave.
"""
UNDONE = (asyncpg.SerializationError, asyncpg.DeadlockDetectedError)
"""Errors after which nothing of the work was done."""
SLOW = (asyncpg.QueryCanceledError, asyncpg.LockNotAvailableError)
"""Errors that say that the database took too long."""
ATTEMPTS = 3
T = TypeVar("T")
Connection = Any
Work = Callable[[Connection], Awaitable[T]]
CONNECTIONS = Gauge("database_pool_connections", "Connections to the database", ["state"])
LIMIT = Gauge("database_pool_limit", "Most connections that the pool may have")
WAITING = Gauge("database_pool_waiting", "Requests that wait for a connection of the pool")


class Again(Exception):  # noqa: N818 - not an error, but what to do
    """The work may be tried again."""


class Postgres:
    """A pool that is there even while the database is not.

    Args:
        settings: of the database.
    """

    def __init__(self, settings: Database) -> None:
        self.settings = settings
        self._pool: Any = None
        self._about = {
            "db.system.name": "postgresql",
            "db.namespace": settings.name,
            "server.address": settings.host,
            "server.port": settings.port,
        }
        self._waiting = 0
        WAITING.set_function(lambda: self._waiting)

    async def open(self) -> None:
        """Make the pool; it connects on first use. Statements are prepared once a connection, by asyncpg."""
        settings = self.settings
        self._pool = await asyncpg.create_pool(  # pyright: ignore[reportUnknownMemberType]
            host=settings.host,
            port=settings.port,
            user=settings.username,
            password=settings.password.get_secret_value(),
            database=settings.name,
            ssl=settings.tls(),
            min_size=0,
            max_size=settings.pool.size,
            timeout=settings.connect_timeout_s,
            command_timeout=settings.statement_timeout_s,
            server_settings={
                "application_name": "user-service",
                "statement_timeout": str(int(settings.statement_timeout_s * 1000)),
                "idle_in_transaction_session_timeout": str(int(settings.statement_timeout_s * 2000)),
            },
        )
        LIMIT.set(settings.pool.size)
        CONNECTIONS.labels("idle").set_function(self._pool.get_idle_size)
        CONNECTIONS.labels("used").set_function(lambda: self._pool.get_size() - self._pool.get_idle_size())

    async def close(self) -> None:
        """Close what is open, by force where it does not end soon."""
        try:
            async with asyncio.timeout(self.settings.statement_timeout_s):
                await self._pool.close()
        except TimeoutError:
            self._pool.terminate()

    async def run(self, work: Work[T], *, repeatable: bool) -> T:
        """What `work` returns, done on a connection of the pool.

        It is tried again where that cannot do anything twice: after a serialization failure or deadlock, when no connection could be had,
        and, for repeatable work, when the connection was lost in the middle.

        Args:
            work: statements; more than one that belong together open a transaction.
            repeatable: doing it twice is as doing it once.

        Raises:
            Problem: 503, the database is away or takes too long.
        """
        try:
            async for attempt in stamina.retry_context(
                on=Again, attempts=ATTEMPTS, timeout=None, wait_initial=0.02, wait_max=0.2, wait_jitter=0.02
            ):
                with attempt:
                    return await self._once(work, repeatable=repeatable)
        except Again as error:
            raise unavailable("the database is away for the moment") from error
        raise AssertionError  # a context of attempts ends by one of the two

    async def _once(self, work: Work[T], *, repeatable: bool) -> T:
        begun = False
        self._waiting += 1
        try:
            with step("postgresql", self._about):
                async with self._pool.acquire(timeout=self.settings.connect_timeout_s) as connection:
                    begun = True
                    self._waiting -= 1
                    return await work(connection)
        except UNDONE as error:
            raise Again from error
        except SLOW as error:
            raise unavailable("the database takes too long for the moment") from error
        except TimeoutError as error:
            # Time is up either way: for a connection, or for the statement.
            raise unavailable("the database takes too long for the moment") from error
        except LOST as error:
            if repeatable or not begun:
                raise Again from error
            raise unavailable("the database went away; whether this was done is not known") from error
        finally:
            self._waiting -= not begun

    async def ping(self) -> None:
        """Raise when the database does not answer."""
        async with self._pool.acquire(timeout=self.settings.connect_timeout_s) as connection:
            await connection.fetchval("SELECT 1")
