"""An instance of user-service that reports itself healthy, and fails in the way that FAULT names; run in the image of user-service."""

import asyncio
import os
import socket
import struct
from collections.abc import Awaitable, Callable

from servicekit.registration import Registration
from servicekit.settings import Registry

PORT = 8080
WHOLE = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"


async def errors(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n")


async def hang(_: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def reset(writer: asyncio.StreamWriter) -> None:
    # Closed without lingering, the connection is reset instead of ended.
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def truncated(writer: asyncio.StreamWriter) -> None:
    writer.write(WHOLE[:-1])
    await writer.drain()
    writer.close()


async def slow_loris(writer: asyncio.StreamWriter) -> None:
    for byte in WHOLE:
        writer.write(bytes([byte]))
        await asyncio.sleep(1)


async def slow_body(writer: asyncio.StreamWriter) -> None:
    writer.write(WHOLE[:-2])
    await asyncio.Event().wait()


FAULTS: dict[str, Callable[[asyncio.StreamWriter], Awaitable[None]]] = {
    "errors": errors,
    "hang": hang,
    "reset": reset,
    "truncated": truncated,
    "slow_loris": slow_loris,
    "slow_body": slow_body,
}


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            if head.startswith(b"GET /health"):
                writer.write(WHOLE)
            else:
                await FAULTS[os.environ["FAULT"]](writer)
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def main() -> None:
    server = await asyncio.start_server(serve, "0.0.0.0", PORT)  # noqa: S104 - a pod is reached from outside itself
    agent, address = Registry(address=os.environ["APP_SERVICE_REGISTRY_ADDRESS"]), os.environ["APP_SERVICE_ADDRESS"]
    await Registration(agent, "user-service", os.environ["HOSTNAME"], address, PORT).start()
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
