"""Discovery of a service's instances: from Consul, passing ones only, kept in memory."""

import asyncio
import logging
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter
from servicekit import background
from servicekit.registration import client
from servicekit.settings import Registry

log = logging.getLogger(__name__)
WAIT_S = 30
"""Seconds after which a blocking query returns without a change: a list is no older than this while Consul is reachable."""
RETRY_S = 1.0
LEAST_S = 0.1
"""Minimum seconds between two queries: they may return without a change, and in quick succession
(https://developer.hashicorp.com/consul/api-docs/features/blocking)."""
EMPTY_S = 60.0
"""Seconds for which an empty list is not believed after a non-empty one: a Consul that lost its state is empty until instances register again."""


REASON_LIMIT = 500
"""Maximum characters of a logged reason: a response may be long."""
INDEX = re.compile(r"[0-9]{1,20}")
Host = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9.:_-]{0,253}$")]


@dataclass(frozen=True)
class Instance:
    """One instance of a service."""

    id: str
    address: str
    port: int


class Part(BaseModel):
    """Base of the parts of an entry of Consul's health API; fields that are not needed here are ignored."""

    model_config = ConfigDict(frozen=True, strict=True)


class Node(Part):
    """The node of an agent."""

    Address: Host


class ServiceEntry(Part):
    """The registration of a service instance."""

    ID: str
    Address: Host
    Port: int = Field(ge=0, le=65535)


class Check(Part):
    """One health check of an instance."""

    Status: str


class Entry(Part):
    """An entry of Consul's health API."""

    Node: Node
    Service: ServiceEntry
    Checks: list[Check]

    def leads_somewhere(self) -> bool:
        """Return whether there is an address to connect to: Consul accepts services without an address or a port."""
        return bool(self.Service.ID and (self.Service.Address or self.Node.Address) and self.Service.Port)

    def instance(self) -> Instance:
        """Return the instance; without an address of its own, it has its node's."""
        return Instance(self.Service.ID, self.Service.Address or self.Node.Address, self.Service.Port)

    def passing(self) -> bool:
        """Return whether every check passes."""
        return all(check.Status == "passing" for check in self.Checks)


ENTRIES = TypeAdapter(list[Entry])


class Discovery:
    """The instances of one service; the last good list is kept while Consul is unreachable.

    Args:
        agent: Consul agent.
        service: name of the service.
        changed: callback for every new list.
    """

    def __init__(
        self, agent: Registry, service: str, changed: Callable[[Sequence[Instance]], None] = lambda _: None
    ) -> None:
        self.agent = agent
        self.service = service
        self.instances: tuple[Instance, ...] = ()
        self._problem: str | None = "not asked yet"
        self._known = False
        self._left_out: list[str] = []
        """Ids in the last response that have no address to connect to."""
        self._changed = changed
        self._empty_since: float | None = None
        self._loop: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start to follow Consul."""
        self._loop = background.start(f"discovery of {self.service}", self._follow)

    async def stop(self) -> None:
        """Stop following Consul."""
        await background.end(self._loop)

    async def check(self) -> None:
        """Raise if Consul did not answer the last query."""
        if self._problem:
            raise ConnectionError(self._problem)

    async def known(self) -> None:
        """Raise until Consul has answered once: before that, an unknown instance may still exist."""
        if not self._known:
            raise ConnectionError(self._problem)

    async def _follow(self) -> None:
        index: str | None = None
        async with client(self.agent) as connection:
            while True:
                try:
                    async with asyncio.timeout(WAIT_S + 5):
                        new, entries = await connection.health.service(self.service, index=index, wait=f"{WAIT_S}s")
                    index = following(index, new)
                    self.take(entries)
                except Exception as error:  # noqa: BLE001 - on any error, the last list stays
                    index = None
                    reason = f"{type(error).__name__}: {error}"[:REASON_LIMIT]
                    if self._problem != reason:
                        log.warning("Consul does not answer", extra={"upstream": self.service, "reason": reason})
                    self._problem = reason
                    await asyncio.sleep(RETRY_S)
                else:
                    self._problem = None
                    await asyncio.sleep(LEAST_S)

    def take(self, answer: object) -> None:
        """Use the instances in a response of Consul's health API from now on.

        Raises:
            ValueError: the response is invalid, or has entries but none with an address to connect to; the last list stays.
        """
        entries = self._leading(ENTRIES.validate_python(answer))
        # If none passes, it is more likely that the checks are wrong (as in a Consul that has just started) than that every instance fails.
        # All of them are tried then, as Envoy does below its panic threshold.
        chosen = [entry for entry in entries if entry.passing()] or entries
        # While an agent is replaced, its instances are registered with the new one as well.
        found = tuple(sorted({entry.instance() for entry in chosen}, key=lambda i: i.id))
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

    def _leading(self, given: list[Entry]) -> list[Entry]:
        """Return the entries with an address to connect to. Another registration under the service's name must not freeze the whole list.

        Raises:
            ValueError: there are entries, but none has an address to connect to.
        """
        entries = [entry for entry in given if entry.leads_somewhere()]
        if given and not entries:
            raise ValueError("no entry has an id, an address and a port")
        left_out = sorted({entry.Service.ID for entry in given} - {entry.Service.ID for entry in entries})
        if left_out and left_out != self._left_out:
            about = {"upstream": self.service, "instances": left_out}
            log.warning("Instances without an id, an address or a port are left out", extra=about)
        self._left_out = left_out
        return entries


def following(index: str | None, new: object) -> str | None:
    """Return the index of the next query; None, to start again, if it went back, as after a restored snapshot.

    Raises:
        ValueError: the new index is malformed.
    """
    if not isinstance(new, str) or not INDEX.fullmatch(new):
        raise ValueError(f"Consul's index is {new!r}")
    if int(new) < 1 or (index is not None and int(new) < int(index)):
        return None
    return new
