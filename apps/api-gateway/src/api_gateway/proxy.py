"""The proxy: a lean ASGI app that hands a request to an instance and its answer back, both as they come."""

from collections.abc import AsyncIterator, Mapping

import aiohttp
from multidict import CIMultiDict
from servicekit.bodies import refuse
from servicekit.observation import App, Receive, Scope, Send
from servicekit.problems import Kind, Problem, unavailable
from yarl import URL

from api_gateway import headers, routes
from api_gateway.balancer import RoundRobin
from api_gateway.discovery import Discovery, Instance

CONNECT_TIMEOUT_S = 1.0
READ_TIMEOUT_S = 30.0
IDLE_S = 15.0
"""Shorter than the services keep an idle connection, so that none is used while it is being closed."""
BAD_GATEWAY = Kind(502, "bad-gateway", "The service failed")
GATEWAY_TIMEOUT = Kind(504, "gateway-timeout", "The service did not answer in time")
IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})


class Proxy:
    """Sends the routes' paths to their services, and the rest to the gateway's own endpoints.

    Args:
        own: app of the gateway's own endpoints.
        discoveries: by name of the service.
    """

    def __init__(self, own: App, discoveries: Mapping[str, Discovery]) -> None:
        self.own = own
        self.discoveries = discoveries
        self.balancers = {service: RoundRobin() for service in discoveries}
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Make the client, inside the running loop."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S, sock_read=READ_TIMEOUT_S)
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=IDLE_S)
        self._session = aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False)

    async def close(self) -> None:
        """Close the client's connections."""
        if self._session:
            await self._session.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        route = routes.find(scope["path"]) if scope["type"] == "http" else None
        if route is None:
            await self.own(scope, receive, send)
            return
        scope["route_template"] = route.template
        try:
            answer = await self._ask(route.service, scope, receive)
        except Problem as problem:
            await refuse(problem, send)
            return
        async with answer:
            await relay(answer, scope["method"], send)

    async def _ask(self, service: str, scope: Scope, receive: Receive) -> aiohttp.ClientResponse:
        """The answer of the first instance that takes the request.

        Raises:
            Problem: 503, there is none; 502 or 504, the one that took it failed.
        """
        body = Body(scope, receive)
        sent = headers.upstream(
            scope["headers"],
            peer(scope),
            host(scope),
            scope.get("scheme", "http"),
            scope["request_id"],
            scope["trace"].traceparent,
        )
        for instance in self.balancers[service].order(self.discoveries[service].instances):
            try:
                return await self._send(instance, scope, sent, body)
            except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
                continue  # nothing was sent, so any request may go to the next one
            except aiohttp.ServerDisconnectedError as error:
                # A connection that was closed while idle: safe to repeat where repeating changes nothing.
                if scope["method"] not in IDEMPOTENT or body.started:
                    raise Problem(BAD_GATEWAY, f"{service} closed the connection") from error
            except TimeoutError as error:
                raise Problem(GATEWAY_TIMEOUT, f"{service} did not answer in time") from error
            except aiohttp.ClientError as error:
                raise Problem(BAD_GATEWAY, f"{service} failed: {type(error).__name__}") from error
        raise unavailable(f"no instance of {service} can be reached")

    async def _send(self, to: Instance, scope: Scope, sent: headers.Headers, body: "Body") -> aiohttp.ClientResponse:
        assert self._session  # noqa: S101 - opened when the app started
        path = scope.get("raw_path") or scope["path"].encode()
        query = scope["query_string"]
        target = (path + b"?" + query if query else path).decode("latin-1")
        url = URL(f"http://{to.address}:{to.port}{target}", encoded=True)
        pairs = CIMultiDict((name.decode("latin-1"), value.decode("latin-1")) for name, value in sent)
        return await self._session.request(
            scope["method"],
            url,
            headers=pairs,
            data=body if body.expected else None,
            allow_redirects=False,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        )


class Body:
    """A request's body, as it comes.

    Args:
        scope: of the request.
        receive: its channel.
    """

    def __init__(self, scope: Scope, receive: Receive) -> None:
        names = {name.lower() for name, _ in scope["headers"]}
        self.expected = b"content-length" in names or b"transfer-encoding" in names
        self.started = False
        self._receive = receive

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Chunks until the end of the body."""
        self.started = True
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ConnectionResetError("the client left before the end of its request")
            if chunk := message.get("body", b""):
                yield chunk
            if not message.get("more_body", False):
                return


async def relay(answer: aiohttp.ClientResponse, method: str, send: Send) -> None:
    """Hand an answer to the client, chunk by chunk."""
    # The gateway's own server says when; two dates would be one too many.
    passed = [pair for pair in headers.without_hop_by_hop(answer.raw_headers) if pair[0] != b"date"]
    await send({"type": "http.response.start", "status": answer.status, "headers": passed})
    if method != "HEAD":
        async for chunk in answer.content.iter_any():
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def peer(scope: Scope) -> str:
    """Address of the client."""
    return scope["client"][0] if scope.get("client") else ""


def host(scope: Scope) -> bytes:
    """The host that the client asked for."""
    return next((value for name, value in scope["headers"] if name == b"host"), b"")
