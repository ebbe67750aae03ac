"""A stand-in for the part of Consul's HTTP API that the gateway uses, with one instance of one service."""

import asyncio
import json
from typing import Any

INDEX = b"7"
HOLD_S = 30
"""Seconds that a blocking query waits for a change that never comes."""


class Registry:
    """A stand-in for Consul's agent, on loopback.

    Args:
        service: the name of the one registered service.
        port: the port of its instance.
    """

    def __init__(self, service: str, port: int) -> None:
        self.service = service
        self.port = port
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> int:
        """Listen; return the port."""
        self._server = await asyncio.start_server(self._begin, "127.0.0.1", 0)
        return self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening, and end the exchanges under way."""
        if self._server:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _begin(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(
                    (line[15:] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), b"0"
                )
                await reader.readexactly(int(length))
                target = head.split(b" ")[1]
                if b"index=" + INDEX in target:
                    await asyncio.sleep(HOLD_S)
                body = json.dumps(self._answer(target.decode())).encode()
                writer.write(
                    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-consul-index: %b\r\ncontent-length: %d\r\n\r\n%b"
                    % (INDEX, len(body), body)
                )
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    def _answer(self, target: str) -> Any:
        if not target.startswith(f"/v1/health/service/{self.service}"):
            return {}
        service = {
            "ID": "recorder",
            "Service": self.service,
            "Address": "127.0.0.1",
            "Port": self.port,
            "Tags": list[str](),
        }
        return [{"Node": {"Node": "n", "Address": "127.0.0.1"}, "Service": service, "Checks": []}]
