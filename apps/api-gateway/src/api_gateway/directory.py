"""The gateway's view of the services: their routes, reloaded as the file changes, and their instances."""

import asyncio
import logging
from pathlib import Path

from prometheus_client import Counter
from servicekit import background
from servicekit.settings import Registry, SettingsError, named

from api_gateway.discovery import Discovery
from api_gateway.routes import FILE, load
from api_gateway.service import UpstreamService

log = logging.getLogger(__name__)
LOOK_EVERY_S = 1.0
RELOADS = Counter("gateway_routes_reloads", "Changes of the routes file", ["result"])


class Directory:
    """Routes and services.

    Args:
        file: file of routes.
        agent: Consul agent.

    Raises:
        SettingsError: the file cannot be read, or is invalid.
    """

    def __init__(self, file: Path, agent: Registry) -> None:
        self.file = file
        self.agent = agent
        self.services: dict[str, UpstreamService] = {}
        self.discoveries: dict[str, Discovery] = {}
        self._leaving: dict[str, UpstreamService] = {}
        """Services that no route names any more and that still have requests in flight."""
        self._seen = self._version()
        self.table = load(file)
        self._problem: str | None = None
        self._loop: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start to follow Consul and the file."""
        await self._apply()
        self._loop = background.start("directory", self._follow)

    async def stop(self) -> None:
        """Stop following them."""
        await background.end(self._loop)
        for name in list(self.services):
            await self._forget(name)

    async def look(self) -> None:
        """Load the file if it has changed; an invalid file is refused with the reason, and the current routes stay."""
        try:
            version = self._version()
            if version == self._seen:
                return
            self._seen = version
            self.table = load(self.file)
        except SettingsError as error:
            if self._problem != str(error):
                self._problem = str(error)
                RELOADS.labels("refused").inc()
                log.error("The new routes are refused; the old ones stay", extra={"reason": str(error)})  # noqa: TRY400
        else:
            await self._apply()
            self._problem = None
            RELOADS.labels("taken").inc()
            log.info("The routes have changed", extra={"routes": [route.prefix for route in self.table.routes]})

    def tick(self, now: float) -> None:
        """Fail exchanges that are past their deadline, including those with removed services."""
        for service in (*self.services.values(), *self._leaving.values()):
            service.tick(now)
        for name in [name for name, service in self._leaving.items() if not service.in_flight]:
            self._leaving.pop(name).forget()

    async def routes_are_current(self) -> None:
        """Raise if the current file was refused."""
        if self._problem:
            raise ValueError(self._problem)

    async def consul_answers(self) -> None:
        """Raise if Consul did not answer the last query."""
        await asyncio.gather(*(discovery.check() for discovery in self.discoveries.values()))

    async def instances_are_known(self) -> None:
        """Raise until Consul has answered once for every service."""
        await asyncio.gather(*(discovery.known() for discovery in self.discoveries.values()))

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            await self.look()

    async def _apply(self) -> None:
        for name in self.table.services - self.services.keys():
            service = self.services[name] = self._leaving.pop(name, None) or UpstreamService(name)
            self.discoveries[name] = Discovery(self.agent, name, service.set_instances)
            await self.discoveries[name].start()
        for name in self.services.keys() - self.table.services:
            await self._forget(name)

    async def _forget(self, name: str) -> None:
        await self.discoveries.pop(name).stop()
        service = self._leaving[name] = self.services.pop(name)
        service.close()

    def _version(self) -> int:
        try:
            return self.file.stat().st_mtime_ns
        except OSError as error:
            raise SettingsError(f"{named(FILE, self.file)} cannot be read: {error.strerror}") from error
