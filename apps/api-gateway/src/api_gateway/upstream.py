"""An instance from the gateway's point of view: its connections, its load, and whether it is ejected."""

import asyncio
from collections import deque

from api_gateway.connection import Connection, NotSent, TimedOut
from api_gateway.discovery import Instance

CONNECT_TIMEOUT_S = 1.0
IDLE_S = 15.0
"""Seconds for which an idle connection is kept: less than the services keep it, so that none is used while it is being closed."""
TICK_S = 0.1
"""Seconds between two checks of deadlines."""
FAILURES_TO_EJECT = 5
EJECTION_S = 30.0
EJECTION_LIMIT_S = 300.0
"""Limit of an ejection's seconds. After consecutive failures an instance is ejected for EJECTION_S, times the number of its ejections, as in
Envoy's outlier detection (https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/upstream/outlier)."""
SLOW_START_S = 10.0
LEAST_WEIGHT = 0.1


class Upstream:
    """One instance.

    Args:
        instance: address of the instance.
        warm: whether it has existed for long; a new one gets its share gradually.
    """

    def __init__(self, instance: Instance, *, warm: bool) -> None:
        self.instance = instance
        self.loop = asyncio.get_running_loop()
        self.active: set[Connection] = set()
        self.tunnels = 0
        self.leaving = False
        """True if the instance is no longer registered; its requests in flight are completed."""
        self.failures = 0
        """Consecutive failures."""
        self.ejections = 0
        self.ejected_until = 0.0
        self._warm_at = 0.0 if warm else self.loop.time() + SLOW_START_S
        self._idle: deque[Connection] = deque()
        self._waiting = 0

    @property
    def in_flight(self) -> int:
        """Return the number of requests that the instance has not answered yet."""
        return len(self.active) + self._waiting + self.tunnels

    def weight(self, now: float) -> float:
        """Return the weight of the instance, from LEAST_WEIGHT to 1."""
        if now >= self._warm_at:
            return 1.0
        return max(LEAST_WEIGHT, 1 - (self._warm_at - now) / SLOW_START_S)

    def ejected(self, now: float) -> bool:
        """Return whether the instance is ejected."""
        return now < self.ejected_until

    def idle(self) -> Connection | None:
        """Return an idle connection, which is in use from now on; None if there is none."""
        while self._idle:
            connection = self._idle.pop()
            if connection.alive:
                self.active.add(connection)
                return connection
        return None

    async def connect(self, *, fresh: bool = False) -> Connection:
        """Return a connection, which is in use from now on.

        Args:
            fresh: whether it has to be a new one.

        Raises:
            NotSent: no connection can be made.
        """
        if not fresh and (connection := self.idle()):
            return connection
        self._waiting += 1
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                _, connection = await self.loop.create_connection(Connection, self.instance.address, self.instance.port)
        except (OSError, TimeoutError, ValueError) as error:  # ValueError: an invalid address
            raise NotSent(f"{self.instance.id} cannot be reached: {type(error).__name__}") from error
        finally:
            self._waiting -= 1
        self.active.add(connection)
        return connection

    def release(self, connection: Connection) -> None:
        """Take a connection back; close it if its exchange is not complete."""
        self.active.discard(connection)
        connection.busy = False
        if connection.done and connection.sent and connection.reusable and connection.alive and not self.leaving:
            connection.idle_since = self.loop.time()
            self._idle.append(connection)
        else:
            connection.done = True
            connection.close()

    def tick(self, now: float) -> None:
        """Fail exchanges that are past their deadline, and close connections that have been idle for long."""
        for connection in list(self.active):
            if connection.busy and not connection.done and now >= connection.deadline:
                connection.fail(TimedOut(f"{self.instance.id} did not answer in time"))
        while self._idle and now - self._idle[0].idle_since > IDLE_S:
            self._idle.popleft().close()

    def close(self) -> None:
        """Close idle connections; those in use are closed after their exchange."""
        self.leaving = True
        while self._idle:
            self._idle.popleft().close()

    def failed(self, now: float, *, may_eject: bool) -> bool:
        """Record a failure; return whether the instance was ejected for it."""
        self.failures += 1
        if self.failures < FAILURES_TO_EJECT or not may_eject or self.ejected(now):
            return False
        self.failures = 0
        self.ejections += 1
        self.ejected_until = now + min(EJECTION_S * self.ejections, EJECTION_LIMIT_S)
        return True
