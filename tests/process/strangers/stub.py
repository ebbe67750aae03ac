"""A process that acts as the gateway's Consul and its one service, on one port of loopback, which it prints."""

import asyncio
import json

BLOCKING_S = 30
PIECE_S = 0.02
"""Seconds between two pieces of an endless answer: its other requests are served meanwhile."""


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer requests until the gateway closes the connection."""
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            if not await answer(head, reader, writer):
                return
            await writer.drain()
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError, ValueError):
        pass  # the gateway has closed the connection, possibly in the middle of a chunk
    finally:
        writer.close()


async def answer(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """Answer one request; return whether another one may follow."""
    target, lower = head.split(b" ", 2)[1], head.lower()
    if target.startswith(b"/v1/health/service/"):
        if b"index=" in target:
            await asyncio.sleep(BLOCKING_S)
        writer.write(whole(instances(writer), b"x-consul-index: 1\r\n"))
    elif target.startswith(b"/v1/"):
        writer.write(whole(b"{}"))
    elif b"upgrade: websocket" in lower:
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        return False
    elif b"/endless" in target:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()
            await asyncio.sleep(PIECE_S)
    else:
        await read_body(lower, reader)
        writer.write(whole(b"x" * 1024))
    return True


async def read_body(head: bytes, reader: asyncio.StreamReader) -> None:
    """Read the body that a head announces."""
    if b"transfer-encoding: chunked" in head:
        while size := int(await reader.readline(), 16):
            await reader.readexactly(size + 2)
        await reader.readline()
    elif b"content-length: " in head:
        await reader.readexactly(int(head.split(b"content-length: ")[1].split(b"\r\n")[0]))


def whole(body: bytes, lines: bytes = b"") -> bytes:
    """Return an answer with a body."""
    return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n%b\r\n%b" % (len(body), lines, body)


def instances(writer: asyncio.StreamWriter) -> bytes:
    """Return Consul's entry of the service: this process."""
    port = writer.get_extra_info("sockname")[1]
    service = {"ID": "s-1", "Address": "127.0.0.1", "Port": port}
    return json.dumps([{"Service": service, "Node": {"Address": "127.0.0.1"}, "Checks": []}]).encode()


async def main() -> None:
    """Serve until the process is ended."""
    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
