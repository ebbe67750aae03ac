"""An instance as the gateway knows it: its connections, how busy it is, and whether it is trusted just now."""

import asyncio
from collections import deque

from api_gateway.connection import Connection, NotSent, TimedOut
from api_gateway.discovery import Instance

CONNECT_TIMEOUT_S = 1.0
IDLE_S = 15.0
"""Shorter than the services keep an idle connection, so that none is used while it is being closed."""
TICK_S = 0.1
"""How exact deadlines are."""
FAILURES_TO_EJECT = 5
EJECTION_S = 30.0
EJECTION_LIMIT_S = 300.0
"""Consecutive failures, and how long an instance then rests, times how often it did: Envoy's outlier detection
(https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/upstream/outlier)."""
SLOW_START_S = 10.0
LEAST_WEIGHT = 0.1


class Upstream:
    """One instance.

    Args:
        instance: where it is.
        warm: whether it has been there for long; one that is new gets its share little by little.
    """

    def __init__(self, instance: Instance, *, warm: bool) -> None:
        self.instance = instance
        self.loop = asyncio.get_running_loop()
        self.active: set[Connection] = set()
        self.tunnels = 0
        self.leaving = False
        """Whether it is known no more; what it holds comes to its end."""
        self.failures = 0
        """In a row."""
        self.ejections = 0
        self.ejected_until = 0.0
        self._warm_at = 0.0 if warm else self.loop.time() + SLOW_START_S
        self._idle: deque[Connection] = deque()
        self._waiting = 0

    @property
    def in_flight(self) -> int:
        """Requests that it has not answered yet."""
        return len(self.active) + self._waiting + self.tunnels

    def weight(self, now: float) -> float:
        """Its share, from LEAST_WEIGHT to 1."""
        if now >= self._warm_at:
            return 1.0
        return max(LEAST_WEIGHT, 1 - (self._warm_at - now) / SLOW_START_S)

    def ejected(self, now: float) -> bool:
        """Whether it rests."""
        return now < self.ejected_until

    def idle(self) -> Connection | None:
        """A connection that is there already, and in use from now on; None where there is none."""
        while self._idle:
            connection = self._idle.pop()
            if connection.alive:
                self.active.add(connection)
                return connection
        return None

    async def connect(self, *, fresh: bool = False) -> Connection:
        """Return a connection that is in use from now on.

        Args:
            fresh: whether it has to be a new one.

        Raises:
            NotSent: none can be made.
        """
        if not fresh and (connection := self.idle()):
            return connection
        self._waiting += 1
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                _, connection = await self.loop.create_connection(Connection, self.instance.address, self.instance.port)
        except (OSError, TimeoutError, ValueError) as error:  # ValueError: an address that is none
            raise NotSent(f"{self.instance.id} cannot be reached: {type(error).__name__}") from error
        finally:
            self._waiting -= 1
        self.active.add(connection)
        return connection

    def release(self, connection: Connection) -> None:
        """Take a connection back; one whose exchange did not come to its end is closed."""
        self.active.discard(connection)
        connection.busy = False
        if connection.done and connection.sent and connection.reusable and connection.alive and not self.leaving:
            connection.idle_since = self.loop.time()
            self._idle.append(connection)
        else:
            connection.done = True
            connection.close()

    def tick(self, now: float) -> None:
        """Fail exchanges that are too late, and close connections that nobody used for long."""
        for connection in list(self.active):
            if connection.busy and not connection.done and now >= connection.deadline:
                connection.fail(TimedOut(f"{self.instance.id} did not answer in time"))
        while self._idle and now - self._idle[0].idle_since > IDLE_S:
            self._idle.popleft().close()

    def close(self) -> None:
        """Close idle connections; those in use end with their exchange."""
        self.leaving = True
        while self._idle:
            self._idle.popleft().close()

    def failed(self, now: float, *, may_eject: bool) -> bool:
        """It did not; whether that was one time too many, and it rests."""
        self.failures += 1
        if self.failures < FAILURES_TO_EJECT or not may_eject or self.ejected(now):
            return False
        self.failures = 0
        self.ejections += 1
        self.ejected_until = now + min(EJECTION_S * self.ejections, EJECTION_LIMIT_S)
        return True
