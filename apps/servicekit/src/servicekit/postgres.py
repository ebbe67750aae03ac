"""Connection pool of Postgres: the meaning of its errors for a request, and retries."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, TypeVar

import asyncpg
import stamina
from prometheus_client import Gauge

from servicekit.problems import unavailable
from servicekit.settings import Database
from servicekit.tracing import step

log = logging.getLogger(__name__)
stamina.instrumentation.set_on_retry_hooks(())  # the request that fails logs that the database is unreachable
LOST = (OSError, TimeoutError, asyncpg.PostgresConnectionError, asyncpg.InterfaceError, asyncpg.CannotConnectNowError,
        asyncpg.TooManyConnectionsError, asyncpg.AdminShutdownError, asyncpg.CrashShutdownError,
        asyncpg.InternalClientError)  # fmt: skip
"""Errors of a connection that is lost or cannot be made, as opposed to errors of the statement.

InternalClientError is the error of a connection that the server has just closed.
"""
UNDONE = (asyncpg.SerializationError, asyncpg.DeadlockDetectedError)
"""Errors after which none of the work was done."""
SLOW = (asyncpg.QueryCanceledError, asyncpg.LockNotAvailableError)
"""Errors of a database that took too long."""
ATTEMPTS = 3
FOR_READING = 2
"""Connections of a pool that writing work leaves to other work: however many requests wait for a locked row, users can be read."""
LOCK_SHARE = 0.5
"""Fraction of a statement's timeout that it may wait for a lock."""
T = TypeVar("T")
Connection = Any
Work = Callable[[Connection], Awaitable[T]]
CONNECTIONS = Gauge("database_pool_connections", "Connections to the database", ["state"])
LIMIT = Gauge("database_pool_limit", "Most connections that the pool may have")
WAITING = Gauge("database_pool_waiting", "Requests that wait for a connection of the pool")


class AgainError(Exception):
    """Signal that the work may be tried again."""


class Postgres:
    """A connection pool that exists even while the database is unreachable.

    Args:
        client: application name of the connections on the server: the service's name.
        settings: settings of the database.

    Raises:
        SettingsError: the certificate that verifies the server cannot be read.
    """

    def __init__(self, client: str, settings: Database) -> None:
        self._client = client
        self.settings = settings
        self._tls = settings.tls()
        self._pool: Any = None
        self._watching: Any = None
        self._writing = asyncio.Semaphore(max(1, settings.pool.size - FOR_READING))
        self._about = {
            "db.system.name": "postgresql",
            "db.namespace": settings.name,
            "server.address": settings.host,
            "server.port": settings.port,
        }
        self._waiting = 0
        WAITING.set_function(lambda: self._waiting)

    async def open(self) -> None:
        """Create the pools, which connect on first use. asyncpg prepares each statement once per connection."""
        self._pool = await self._pool_of(self.settings.pool.size)
        self._watching = await self._pool_of(1)
        LIMIT.set(self.settings.pool.size)
        CONNECTIONS.labels("idle").set_function(self._pool.get_idle_size)
        CONNECTIONS.labels("used").set_function(lambda: self._pool.get_size() - self._pool.get_idle_size())

    async def _pool_of(self, size: int) -> Any:
        settings = self.settings
        return await asyncpg.create_pool(  # pyright: ignore[reportUnknownMemberType]
            host=settings.host,
            port=settings.port,
            user=settings.username,
            password=settings.password.get_secret_value(),
            database=settings.name,
            ssl=self._tls,
            min_size=0,
            max_size=size,
            timeout=settings.connect_timeout_s,
            command_timeout=settings.statement_timeout_s,
            server_settings={
                "application_name": self._client,
                "statement_timeout": str(int(settings.statement_timeout_s * 1000)),
                "lock_timeout": str(int(settings.statement_timeout_s * 1000 * LOCK_SHARE)),
                "idle_in_transaction_session_timeout": str(int(settings.statement_timeout_s * 2000)),
            },
        )

    async def close(self) -> None:
        """Close the connections, by force if they do not end soon."""
        pools = self._pool, self._watching
        try:
            async with asyncio.timeout(self.settings.statement_timeout_s):
                await asyncio.gather(*(pool.close() for pool in pools))
        except LOST as error:
            about = {
                "address": self.settings.host,
                "port": self.settings.port,
                "reason": f"{type(error).__name__}: {error}",
            }
            log.warning("Connections to the database are ended by force", extra=about)
            for pool in pools:
                pool.terminate()

    async def run(self, work: Work[T], *, repeatable: bool, writes: bool = False) -> T:
        """Return the result of `work`, done on a connection of the pool.

        It is retried if that cannot do anything twice: after a serialization failure or deadlock, when no connection could be made,
        and, for repeatable work, when the connection was lost in the middle.

        Args:
            work: function that executes statements; several that belong together need a transaction.
            repeatable: whether doing the work twice has the same effect as doing it once.
            writes: whether the work may wait for a row; some connections are reserved for work that does not.

        Raises:
            Problem: 503, the database is unreachable or takes too long.
        """
        try:
            async for attempt in stamina.retry_context(
                on=AgainError, attempts=ATTEMPTS, timeout=None, wait_initial=0.02, wait_max=0.2, wait_jitter=0.02
            ):
                with attempt:
                    return await self._once(work, repeatable=repeatable, writes=writes)
        except AgainError as error:
            raise unavailable("the database is away for the moment") from error
        raise AssertionError  # a retry context ends in one of the two ways

    async def _once(self, work: Work[T], *, repeatable: bool, writes: bool) -> T:
        begun = False
        try:
            with step("postgresql", self._about):
                async with AsyncExitStack() as held:
                    connection = await self._acquire(held, writes=writes)
                    begun = True
                    return await work(connection)
        except UNDONE as error:
            raise AgainError from error
        except SLOW as error:
            raise unavailable("the database takes too long for the moment") from error
        except TimeoutError as error:
            # The timeout is either that of a connection or that of the statement.
            raise unavailable("the database takes too long for the moment") from error
        except LOST as error:
            if repeatable or not begun:
                raise AgainError from error
            raise unavailable("the database went away; whether this was done is not known") from error

    async def _acquire(self, held: AsyncExitStack, *, writes: bool) -> Connection:
        """Return a connection of the pool, which is released with the exit stack."""
        self._waiting += 1
        try:
            async with asyncio.timeout(self.settings.connect_timeout_s):
                if writes:
                    await held.enter_async_context(self._writing)
                return await held.enter_async_context(self._pool.acquire())
        finally:
            self._waiting -= 1

    async def watch(self, query: str) -> Any:
        """Return the single value of a query, on a connection that no request uses; raise if there is none."""
        async with self._watching.acquire(timeout=self.settings.connect_timeout_s) as connection:
            return await connection.fetchval(query)

    async def ping(self) -> None:
        """Raise if the database does not answer."""
        await self.watch("SELECT 1")
