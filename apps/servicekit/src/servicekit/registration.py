"""Registration in Consul: maintained while the service runs, removed before it stops."""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import consul.aio
from consul import Check

from servicekit import background, metrics
from servicekit.settings import Registry

log = logging.getLogger(__name__)
CHECK = {"interval": "10s", "timeout": "5s", "deregister": "1m"}  # a minute is Consul's minimum for deregistering
LOOK_EVERY_S = 5.0
"""Seconds between two checks that the agent still knows the instance: an agent that lost its state does not."""
CALL_TIMEOUT_S = 3.0


@asynccontextmanager
async def client(agent: Registry) -> AsyncGenerator[Any]:
    """Yield a client of the Consul agent, created inside the running loop as its sessions must be."""
    host, _, port = agent.address.rpartition(":")
    token = agent.token.get_secret_value() or None
    connection: Any = consul.aio.Consul(host=host, port=int(port), token=token, verify=False)
    try:
        yield connection
    finally:
        await connection.close()


class Registration:
    """One instance of a service in Consul.

    Args:
        agent: Consul agent.
        service: name of the service.
        instance: id of this instance; unique in Consul.
        address: address of the instance.
        port: port of the instance.
    """

    def __init__(self, agent: Registry, service: str, instance: str, address: str, port: int) -> None:
        self.agent = agent
        self.service = service
        self.instance = instance
        self.address = address
        self.port = port
        self._problem: str | None = "not registered yet"
        self._loop: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start to register, again whenever the agent has forgotten the instance; failures are retried."""
        self._loop = background.start("registration", self._keep)

    async def check(self) -> None:
        """Raise if the last attempt to register failed."""
        if self._problem:
            raise ConnectionError(self._problem)

    async def stop(self) -> None:
        """Deregister from Consul, before the listener closes, so that no request is sent to a closed port."""
        await background.end(self._loop)
        self._set("deregistered")
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S), client(self.agent) as connection:
                await connection.agent.service.deregister(self.instance)
        except Exception as error:  # noqa: BLE001 - on any error, the service stops
            about = {"instance": self.instance, "url": self.agent.address, "reason": f"{type(error).__name__}: {error}"}
            log.warning("Could not deregister; Consul's check will do it", extra=about)
        else:
            log.info("Deregistered", extra={"instance": self.instance})

    async def _keep(self) -> None:
        while True:
            try:
                # A new connection each time: a kept one would stay with an agent that is being replaced.
                async with asyncio.timeout(CALL_TIMEOUT_S), client(self.agent) as connection:
                    await self._register_if_unknown(connection)
            except Exception as error:  # noqa: BLE001 - any error is retried
                reason = f"{type(error).__name__}: {error}"
                if self._problem != reason:
                    log.warning("Could not register", extra={"reason": reason})
                self._set(reason)
            else:
                self._set(None)
            await asyncio.sleep(LOOK_EVERY_S if self._problem is None else 1.0)

    async def _register_if_unknown(self, connection: Any) -> None:
        known = await connection.agent.services()
        found = known.get(self.instance)
        if found and (found["Address"], found["Port"]) == (self.address, self.port):
            return
        check: Any = Check.http(  # pyright: ignore[reportUnknownMemberType]
            f"http://{self.address}:{self.port}/health", **CHECK
        )
        check["Status"] = "passing"  # the service listens; the first check may be ten seconds away
        await connection.agent.service.register(
            self.service, service_id=self.instance, address=self.address, port=self.port, check=check
        )
        log.info("Registered", extra={"instance": self.instance, "address": self.address, "port": self.port})

    def _set(self, problem: str | None) -> None:
        self._problem = problem
        metrics.REGISTERED.set(0 if problem else 1)
