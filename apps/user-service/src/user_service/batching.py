"""Batching of concurrent queries: keys that are requested while a batch is in progress are loaded together in the next one."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from servicekit import background
from servicekit.tracing import Trace, current

K = TypeVar("K")
V = TypeVar("V")
LARGEST = 200
"""Maximum keys in one batch."""


class Batched(Generic[K, V]):
    """A source of values by key, queried with one batch at a time.

    It saves round trips for concurrent callers, and protects the source from a stampede: however many callers request a key, it is loaded once.
    A key is only answered by a batch that started after the request for it, so no caller gets a value older than its request.

    Args:
        load: function that returns the values of keys, in their order.
    """

    def __init__(self, load: Callable[[Sequence[K]], Awaitable[Sequence[V]]]) -> None:
        self._load = load
        self._waiting: dict[K, list[asyncio.Future[V]]] = {}
        self._running: asyncio.Task[None] | None = None
        self._trace: Trace | None = None
        """Trace of the first recorded request that waits: the next batch becomes a part of it."""

    async def get(self, key: K) -> V:
        """Return the value of a key; raise the error of its batch, if any."""
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
            except Exception as error:  # noqa: BLE001 - the error is for the callers
                for future in (future for futures in batch.values() for future in futures if not future.done()):
                    future.set_exception(error)
            else:
                for key, futures in batch.items():
                    for future in futures:
                        if not future.done():  # the caller may have been cancelled
                            future.set_result(values[key])
        self._running = None
