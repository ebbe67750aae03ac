"""Many questions at once as one: what is asked for while an answer is on its way is asked for together."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from servicekit import background
from servicekit.tracing import Trace, current

K = TypeVar("K")
V = TypeVar("V")
LARGEST = 200
"""Keys in one batch."""


class Batched(Generic[K, V]):
    """A source of values by key, asked by one batch at a time.

    Saves round trips when many ask at once, and protects the source from a stampede: however many ask for a key, it is loaded once. A key is
    only ever answered by a batch that left after it was asked for, so nobody gets an answer older than the question.

    Args:
        load: the values of some keys, in their order.
    """

    def __init__(self, load: Callable[[Sequence[K]], Awaitable[Sequence[V]]]) -> None:
        self._load = load
        self._waiting: dict[K, list[asyncio.Future[V]]] = {}
        self._running: asyncio.Task[None] | None = None
        self._trace: Trace | None = None
        """Of the first one that waits and is recorded: the next batch is a part of that."""

    async def get(self, key: K) -> V:
        """The value of a key; raises what loading it raised."""
        future: asyncio.Future[V] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, []).append(future)
        self._trace = self._trace or current.get()
        if self._running is None:
            self._running = background.once("batches", self._run())
        return await future

    async def _run(self) -> None:
        while self._waiting:
            batch = {key: self._waiting.pop(key) for key in list(self._waiting)[:LARGEST]}
            current.set(self._trace)
            self._trace = None
            try:
                values = dict(zip(batch, await self._load(list(batch)), strict=True))
            except Exception as error:  # noqa: BLE001 - it belongs to those who wait
                for future in (future for futures in batch.values() for future in futures if not future.done()):
                    future.set_exception(error)
            else:
                for key, futures in batch.items():
                    for future in futures:
                        if not future.done():  # whoever waited may have left
                            future.set_result(values[key])
        self._running = None
