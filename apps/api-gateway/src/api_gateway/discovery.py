"""Where a service's instances are: from Consul, passing ones only, kept in memory."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from servicekit import background
from servicekit.registration import client
from servicekit.settings import Registry

log = logging.getLogger(__name__)
WAIT_S = 30
"""A query returns at a change, or after this time: so long is a list good at the most while Consul is there."""
RETRY_S = 1.0
LEAST_S = 0.1
"""Between two queries: a return is not a change, and they may come thick and fast (https://developer.hashicorp.com/consul/api-docs/features/blocking)."""
EMPTY_S = 60.0
"""So long is an empty list not believed where there were instances: a Consul that has lost its state is empty until they register again."""


@dataclass(frozen=True)
class Instance:
    """One instance of a service."""

    id: str
    address: str
    port: int


class Discovery:
    """The instances of one service; the last good list is kept while Consul is away.

    Args:
        agent: of Consul.
        service: name of the service.
        changed: called with every new list.
    """

    def __init__(
        self, agent: Registry, service: str, changed: Callable[[Sequence[Instance]], None] = lambda _: None
    ) -> None:
        self.agent = agent
        self.service = service
        self.instances: tuple[Instance, ...] = ()
        self._problem: str | None = "not asked yet"
        self._known = False
        self._changed = changed
        self._empty_since: float | None = None
        self._loop: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Follow Consul from now on."""
        self._loop = asyncio.create_task(self._follow())

    async def stop(self) -> None:
        """Follow it no more."""
        await background.end(self._loop)

    async def check(self) -> None:
        """Raise when Consul did not answer the last query."""
        if self._problem:
            raise ConnectionError(self._problem)

    async def known(self) -> None:
        """Raise until Consul has answered once: before that, not to know an instance does not mean that there is none."""
        if not self._known:
            raise ConnectionError(self._problem)

    async def _follow(self) -> None:
        index: str | None = None
        async with client(self.agent) as connection:
            while True:
                try:
                    async with asyncio.timeout(WAIT_S + 5):
                        new, entries = await connection.health.service(self.service, index=index, wait=f"{WAIT_S}s")
                except Exception as error:  # noqa: BLE001 - whatever it is, the last list stays
                    index = None
                    reason = f"{type(error).__name__}: {error}"
                    if self._problem != reason:
                        log.warning("Consul does not answer", extra={"upstream": self.service, "reason": reason})
                    self._problem = reason
                    await asyncio.sleep(RETRY_S)
                else:
                    self._problem = None
                    self.take(entries)
                    index = following(index, new)
                    await asyncio.sleep(LEAST_S)

    def take(self, entries: list[Any]) -> None:
        """Have the instances of these entries of Consul's health API from now on."""
        # Where none passes, it is more likely that the checks are wrong, as those of a Consul that has just started, than every
        # instance: all of them are tried then, as Envoy does below its panic threshold.
        chosen = [entry for entry in entries if passing(entry)] or entries
        # While an agent is replaced, its instances are registered with the new one too.
        found = tuple(sorted({instance(entry) for entry in chosen}, key=lambda i: i.id))
        self._known = True
        now = time.monotonic()
        if found:
            self._empty_since = None
        elif self.instances:
            self._empty_since = self._empty_since or now
            if now - self._empty_since < EMPTY_S:
                return
        if found != self.instances:
            log.info("Instances changed", extra={"upstream": self.service, "instances": [i.id for i in found]})
            self.instances = found
            self._changed(found)


def following(index: str | None, new: str | None) -> str | None:
    """The index of the next query: from the start where it went back, as after a restored snapshot, or makes no sense."""
    if new is None or int(new) < 1 or (index is not None and int(new) < int(index)):
        return None
    return new


def instance(entry: dict[str, Any]) -> Instance:
    """An entry of Consul's health API."""
    service = entry["Service"]
    return Instance(service["ID"], service["Address"] or entry["Node"]["Address"], service["Port"])


def passing(entry: dict[str, Any]) -> bool:
    """Whether every check of an entry of Consul's health API passes."""
    return all(check["Status"] == "passing" for check in entry["Checks"])
