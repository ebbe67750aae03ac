"""Where a service's instances are: from Consul, passing ones only, kept in memory."""

import asyncio
import logging
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, model_validator
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


REASON_LIMIT = 500
"""Characters of what is said to be wrong: an answer may be long."""
INDEX = re.compile(r"[0-9]{1,20}")
Host = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9.:_-]{0,253}$")]


@dataclass(frozen=True)
class Instance:
    """One instance of a service."""

    id: str
    address: str
    port: int


class Part(BaseModel):
    """Common to the parts of an entry of Consul's health API, of which Consul says more than is needed here."""

    model_config = ConfigDict(frozen=True, strict=True)


class Node(Part):
    """Where an agent is."""

    Address: Host


class ServiceEntry(Part):
    """What was registered."""

    ID: str = Field(min_length=1)
    Address: Host
    Port: int = Field(ge=1, le=65535)


class Check(Part):
    """One of its checks."""

    Status: str


class Entry(Part):
    """An entry of Consul's health API."""

    Node: Node
    Service: ServiceEntry
    Checks: list[Check]

    @model_validator(mode="after")
    def has_an_address(self) -> "Entry":
        """Refuse an entry that leads nowhere."""
        if not (self.Service.Address or self.Node.Address):
            raise ValueError("neither the service nor its node has an address")
        return self

    def instance(self) -> Instance:
        """Return where it is: without an address of its own, at its node."""
        return Instance(self.Service.ID, self.Service.Address or self.Node.Address, self.Service.Port)

    def passing(self) -> bool:
        """Return whether every check passes."""
        return all(check.Status == "passing" for check in self.Checks)


ENTRIES = TypeAdapter(list[Entry])


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
        self._loop = background.start(f"discovery of {self.service}", self._follow)

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
                    index = following(index, new)
                    self.take(entries)
                except Exception as error:  # noqa: BLE001 - whatever it is, the last list stays
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
        """Have the instances in an answer of Consul's health API from now on.

        Raises:
            ValidationError: it is no such answer; the last list stays.
        """
        entries = ENTRIES.validate_python(answer)
        # Where none passes, it is more likely that the checks are wrong, as those of a Consul that has just started, than every
        # instance: all of them are tried then, as Envoy does below its panic threshold.
        chosen = [entry for entry in entries if entry.passing()] or entries
        # While an agent is replaced, its instances are registered with the new one too.
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


def following(index: str | None, new: object) -> str | None:
    """Return the index of the next query: from the start where it went back, as after a restored snapshot.

    Raises:
        ValueError: the new one is no index.
    """
    if not isinstance(new, str) or not INDEX.fullmatch(new):
        raise ValueError(f"Consul's index is {new!r}")
    if int(new) < 1 or (index is not None and int(new) < int(index)):
        return None
    return new
