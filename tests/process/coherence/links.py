"""TCP forwarders whose connections can be cut, stalled and unblocked."""

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any

CHUNK_BYTES = 65536


class Network:
    """The event loop of some links, in a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._links: list[Link] = []

    def link(self, target: int, host: str = "127.0.0.1") -> "Link":
        """Return a new link to a port."""
        link = Link(self, target, host)
        self.run(link.listen())
        self._links.append(link)
        return link

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine in the loop, and return once it is done."""
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    def close(self) -> None:
        """Close the links and end the thread."""
        for link in self._links:
            self.run(link.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


class Link:
    """A link to one port, for one client.

    Args:
        network: the network that runs it.
        target: the port that it forwards to.
        host: the host of that port.
    """

    def __init__(self, network: Network, target: int, host: str) -> None:
        self.network = network
        self.target = target
        self.host = host
        self.port = 0
        self._open = True
        self._flows = asyncio.Event()
        self._flows.set()
        self._writers = set[asyncio.StreamWriter]()
        self._tasks = set[asyncio.Task[None]]()

    async def listen(self) -> None:
        """Accept connections."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    def cut(self) -> None:
        """Reset every connection, discard buffered data, and refuse new ones."""
        self.network.run(self._set(is_open=False, flows=True))

    def stall(self) -> None:
        """Hold all incoming data, and answer nothing."""
        self.network.run(self._set(is_open=True, flows=False))

    def heal(self) -> None:
        """Forward the held data, and all that follows."""
        self.network.run(self._set(is_open=True, flows=True))

    async def close(self) -> None:
        """Stop for good."""
        self._server.close()
        await self._set(is_open=False, flows=True)
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _set(self, *, is_open: bool, flows: bool) -> None:
        self._open = is_open
        if not is_open:
            for writer in self._writers:
                writer.transport.abort()
        (self._flows.set if flows else self._flows.clear)()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        task: Any = asyncio.current_task()
        self._tasks.add(task)
        try:
            await self._flows.wait()
            if self._open and not writer.is_closing():
                await self._forward(reader, writer)
        finally:
            self._writers.discard(writer)
            self._tasks.discard(task)
            writer.transport.abort()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection(self.host, self.target)
        except OSError:
            return
        self._writers.add(back)
        try:
            await asyncio.gather(self._pump(reader, back), self._pump(there, writer))
        except OSError:
            pass
        finally:
            self._writers.discard(back)
            back.transport.abort()

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while chunk := await source.read(CHUNK_BYTES):
            await self._flows.wait()
            sink.write(chunk)
            await sink.drain()
        await self._flows.wait()
        if sink.can_write_eof():
            sink.write_eof()
