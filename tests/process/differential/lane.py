"""The proxies, their recorders and the clients, in an event loop of their own."""

import asyncio
import threading
from collections.abc import Coroutine, Generator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from tests.process.differential.case import Case
from tests.process.differential.exchange import Observation, observe
from tests.process.differential.targets import OURS, REFERENCES, Target, targets

T = TypeVar("T")
Observations = dict[str, dict[str, Observation]]
"""Observations by proxy, then by case."""


class Lane:
    """The running proxies.

    Args:
        loop: the event loop of the clients.
        running: the proxies by name.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, running: dict[str, Target]) -> None:
        self.loop = loop
        self.running = running

    def observe(self, cases: Sequence[Case], names: Sequence[str]) -> Observations:
        """Send cases to proxies: one after the other to each, to all of them at once."""

        async def to(name: str) -> dict[str, Observation]:
            return {case.name: await observe(self.running[name], case) for case in cases}

        async def to_all() -> Observations:
            return dict(zip(names, await asyncio.gather(*map(to, names)), strict=True))

        return wait(self.loop, to_all())


def wait(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in another thread's loop, and return its result."""
    return asyncio.run_coroutine_threadsafe(work, loop).result()


@contextmanager
def lane(names: tuple[str, ...] = OURS + REFERENCES) -> Generator[Lane]:
    """Run the proxies.

    Raises:
        NotBuiltError: one is not built yet.
    """
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    context = targets(names)
    try:
        running = wait(loop, context.__aenter__())
        try:
            yield Lane(loop, running)
        finally:
            wait(loop, context.__aexit__(None, None, None))
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
