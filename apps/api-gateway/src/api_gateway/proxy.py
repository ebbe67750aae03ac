"""The proxy: a lean ASGI app that hands a request to an instance and its answer back, both as they come."""

import asyncio
import contextlib
from dataclasses import dataclass, field

from prometheus_client import Counter
from servicekit.bodies import refuse
from servicekit.observation import App, Receive, Scope, Send
from servicekit.problems import Kind, Problem, unavailable
from servicekit.tokens import Claims, Verifier

from api_gateway import headers, paths
from api_gateway.connection import ClientGone, Connection, NotSent, TimedOut, UpstreamError
from api_gateway.directory import Directory
from api_gateway.forwarded import Peers
from api_gateway.limits import RateLimits
from api_gateway.routes import Route
from api_gateway.service import RETRIES, UpstreamService
from api_gateway.upstream import TICK_S, Upstream

CONCURRENCY_LIMIT = 1000
"""Requests at once; more are refused at once, so that those that are served stay fast."""
WHOLE_BYTES = 64 * 1024
"""A body up to this size is held until it is whole, so that one that breaks off can be asked for again."""
PATIENCE_S = 0.2
"""After so long it is asked whether the client is still there."""
BAD_GATEWAY = Kind(502, "bad-gateway", "The service failed")
GATEWAY_TIMEOUT = Kind(504, "gateway-timeout", "The service did not answer in time")
MALFORMED_REQUEST = Kind(400, "malformed-request", "The request can be read in more than one way")
METHOD_NOT_ALLOWED = Kind(405, "method-not-allowed", "Method Not Allowed")
IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})
SHED = Counter(
    "gateway_shed", "Requests that were refused because there were too many, or the breaker was open", ["reason"]
)


class Again(Exception):  # noqa: N818
    """Another instance is asked."""


@dataclass(slots=True)
class Exchange:
    """A request on its way."""

    route: Route
    scope: Scope
    receive: Receive
    started: float
    body: bytes
    """The whole body, or its first piece."""
    more: bool
    """Whether there is more of it, which then goes to one instance only."""
    chunked: bool
    """Whether the client has not said how long its body is."""
    ours: headers.Headers
    limited: headers.Headers
    """Where the client stands with its rate limit."""
    tried: list[Upstream] = field(default_factory=list[Upstream])
    answered: bool = False
    """Whether the client has got a part of the answer."""


class Proxy:
    """Sends the routes' paths to their services, and the rest to the gateway's own endpoints.

    Args:
        own: app of the gateway's own endpoints.
        directory: the routes, and the services that they name.
        verifier: of tokens.
        peers: who is trusted.
        limits: how much a client may ask.
    """

    def __init__(
        self,
        own: App,
        directory: Directory,
        verifier: Verifier,
        peers: Peers,
        limits: RateLimits,
    ) -> None:
        self.own = own
        self.directory = directory
        self.verifier = verifier
        self.peers = peers
        self.limits = limits
        self.active = 0
        self._waiting: dict[Connection, Receive] = {}
        self._watchers: dict[Connection, asyncio.Task[None]] = {}
        self._clock: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Let time pass."""
        self._clock = asyncio.create_task(self._tick())

    async def close(self) -> None:
        """Let no more time pass."""
        if self._clock:
            self._clock.cancel()
            await asyncio.gather(self._clock, return_exceptions=True)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        route = self.directory.table.find(scope["path"]) if scope["type"] == "http" else None
        if route is None:
            await self.own(scope, receive, send)
            return
        scope["route_template"] = route.template
        if self.active >= CONCURRENCY_LIMIT:
            SHED.labels("concurrency").inc()
            await refuse(unavailable("the gateway has too much to do"), send)
            return
        self.active += 1
        try:
            await self._serve(route, scope, receive, send)
        except Problem as problem:
            await refuse(problem, send)
        except ClientGone:
            pass
        finally:
            self.active -= 1

    async def _serve(self, route: Route, scope: Scope, receive: Receive, send: Send) -> None:
        names = [name for name, _ in scope["headers"]]
        check(route, scope, names)
        claims = None if route.auth == "none" else await self._authenticate(route, scope)
        client, chain, scheme = self.peers.client(scope)
        limited = self._limited(route, claims, client) if route.rate_limit else []
        body, more = b"", False
        length, chunked = b"content-length" in names, b"transfer-encoding" in names
        if length or chunked:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body, more = message.get("body", b""), message.get("more_body", False)
        ours = [
            (b"x-forwarded-for", chain),
            (b"x-forwarded-host", host(scope)),
            (b"x-forwarded-proto", scheme),
            (b"x-request-id", scope["request_id"].encode()),
            (b"traceparent", scope["trace"].traceparent.encode()),
        ]
        started = asyncio.get_running_loop().time()
        await self._forward(
            Exchange(route, scope, receive, started, body, more, chunked and not length, ours, limited),
            client.encode(),
            send,
        )

    async def _authenticate(self, route: Route, scope: Scope) -> Claims | None:
        given = next((value for name, value in scope["headers"] if name == b"authorization"), None)
        if given is None and route.auth == "optional":
            return None
        return await self.verifier.authenticate(given.decode("latin-1") if given is not None else None)

    def _limited(self, route: Route, claims: Claims | None, client: str) -> headers.Headers:
        assert route.rate_limit  # noqa: S101 - asked for only where there is one
        who = f"sub:{claims.get('sub')}" if claims else f"address:{client}"
        return self.limits.take(route.prefix, route.rate_limit, who)

    async def _forward(self, exchange: Exchange, key: bytes, send: Send) -> None:
        """Send the request to one instance after the other until one has answered.

        Raises:
            Problem: 503, there is none to try; 502 or 504, those that were tried failed.
        """
        loop = asyncio.get_running_loop()
        service, route = self.directory.services[exchange.route.service], exchange.route
        service.budget.earn()
        if not service.breaker.allows(exchange.started):
            SHED.labels("breaker").inc()
            raise unavailable(f"{service.name} fails; it is tried again in some seconds")
        error: UpstreamError | None = None
        attempts = 0
        while upstream := service.choose(route.balance, key, exchange.tried, loop.time()):
            exchange.tried.append(upstream)
            attempts += 1
            try:
                await self._try(exchange, service, upstream, attempts, send)
            except Again:
                continue
            except NotSent as failure:
                error = failure  # and no second time, so that any request may go to the next one
            except UpstreamError as failure:
                if exchange.answered:
                    raise ConnectionError("the instance broke off in the middle of its answer") from failure
                error = failure
                if not may_repeat(exchange, service, attempts, loop.time()):
                    break
            else:
                return
        raise problem_of(service.name, error)

    async def _try(
        self, exchange: Exchange, service: UpstreamService, upstream: Upstream, attempt: int, send: Send
    ) -> None:
        """One attempt.

        Raises:
            Again: the instance answered with an error, and another one is to be asked.
            UpstreamError: it failed; nothing was sent to the client unless the exchange is `answered`.
        """
        loop = asyncio.get_running_loop()
        connection: Connection | None = None
        pump: asyncio.Task[None] | None = None
        try:
            connection = await upstream.connect()
            now = loop.time()
            left_s = time_left_s(exchange, attempt, now)
            connection.deadline = now + left_s
            connection.start(
                request(exchange, left_s), headless=exchange.scope["method"] == "HEAD", whole=not exchange.more, now=now
            )
            if exchange.more:
                pump = asyncio.create_task(send_rest(exchange, connection))
            else:
                self._waiting[connection] = exchange.receive
            await connection.head()
            failed = connection.status >= 500 and connection.status != 501
            if failed:
                service.failed(upstream, "status", loop.time(), answered=True)
                if may_repeat(exchange, service, attempt, loop.time()):
                    raise Again
            connection.deadline = loop.time() + exchange.route.timeout_s
            await relay(exchange, connection, send, loop)
            if not failed:
                service.succeeded(upstream, loop.time())
        except UpstreamError as error:
            service.failed(upstream, type(error).__name__, loop.time(), answered=False)
            raise
        finally:
            if connection:
                self._waiting.pop(connection, None)
                if watcher := self._watchers.pop(connection, None):
                    watcher.cancel()
                if pump:
                    pump.cancel()
                upstream.release(connection)

    async def _tick(self) -> None:
        """Fail what is too late, and let go of what nobody waits for any more."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(TICK_S)
            now = loop.time()
            for service in self.directory.services.values():
                service.tick(now)
            for connection, receive in list(self._waiting.items()):
                if now - connection.started > PATIENCE_S:
                    del self._waiting[connection]
                    self._watchers[connection] = asyncio.create_task(watch(receive, connection))


def may_repeat(exchange: Exchange, service: UpstreamService, attempts: int, now: float) -> bool:
    """Whether a request that an instance may have seen is sent to another one: only where twice is as good as once."""
    safe = exchange.scope["method"] in IDEMPOTENT and not exchange.more and attempts < exchange.route.attempts
    in_time = now < exchange.started + exchange.route.timeout_s
    if not (safe and in_time and len(service.upstreams) > len(exchange.tried) and service.budget.spend(now)):
        return False
    RETRIES.labels(service.name).inc()
    return True


def time_left_s(exchange: Exchange, attempt: int, now: float) -> float:
    """How long an attempt may take, so that those after it have their share."""
    left_s = exchange.started + exchange.route.timeout_s - now
    repeatable = exchange.scope["method"] in IDEMPOTENT and not exchange.more
    return max(left_s / (exchange.route.attempts - attempt + 1) if repeatable else left_s, TICK_S)


def check(route: Route, scope: Scope, names: list[bytes]) -> None:
    """Refuse what the gateway and a service could read differently, and what the route does not take.

    Raises:
        Problem: 400 or 405.
    """
    if not paths.plain(scope["raw_path"]):
        raise Problem(MALFORMED_REQUEST, "the path holds encoded slashes, dot segments or the like")
    if names.count(b"host") != 1:
        raise Problem(MALFORMED_REQUEST, "send one Host header")
    if scope["method"] not in route.methods:
        allowed = ", ".join(sorted(route.methods))
        raise Problem(METHOD_NOT_ALLOWED, f"this path takes {allowed}", {"Allow": allowed})


def request(exchange: Exchange, left_s: float) -> bytes:
    """A request as it is sent: its head, and what there is of its body."""
    scope = exchange.scope
    target = scope["raw_path"] + b"?" + scope["query_string"] if scope["query_string"] else scope["raw_path"]
    lines = [scope["method"].encode(), b" ", target, b" HTTP/1.1\r\n"]
    lines += headers.upstream(scope["headers"], exchange.ours)
    lines.append(b"x-request-timeout-ms: %d\r\n" % (left_s * 1000))
    if exchange.chunked and exchange.more:
        lines += (b"transfer-encoding: chunked\r\n\r\n", chunk(exchange.body))
    elif exchange.chunked:
        lines += (b"content-length: %d\r\n\r\n" % len(exchange.body), exchange.body)
    else:
        lines += (b"\r\n", exchange.body)
    return b"".join(lines)


def chunk(data: bytes) -> bytes:
    """A chunk (RFC 9112, section 7.1); nothing for nothing, which would be the end."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


async def send_rest(exchange: Exchange, connection: Connection) -> None:
    """Send the rest of a body as it comes, no faster than the instance takes it."""
    more = True
    while more:
        message = await exchange.receive()
        if message["type"] == "http.disconnect":
            connection.fail(ClientGone())
            return
        data, more = message.get("body", b""), message.get("more_body", False)
        connection.deadline = asyncio.get_running_loop().time() + exchange.route.timeout_s
        connection.write(chunk(data) if exchange.chunked else data)
        await connection.drained()
    if exchange.chunked:
        connection.write(b"0\r\n\r\n")
    connection.sent = True
    await watch(exchange.receive, connection)


async def relay(exchange: Exchange, connection: Connection, send: Send, loop: asyncio.AbstractEventLoop) -> None:
    """Hand an answer to the client: one of a known, small size whole, any other as it comes.

    Raises:
        UpstreamError: it broke off.
    """
    start = {
        "type": "http.response.start",
        "status": connection.status,
        "headers": headers.downstream(connection.headers) + exchange.limited,
    }
    if connection.done or small(connection):
        body = await connection.whole()
        exchange.answered = True
        await send(start)
        await send({"type": "http.response.body", "body": body})
        return
    exchange.answered = True
    await send(start)
    while piece := await connection.chunk():
        await send({"type": "http.response.body", "body": piece, "more_body": True})
        connection.deadline = loop.time() + exchange.route.timeout_s
    await send({"type": "http.response.body", "body": b""})


def small(connection: Connection) -> bool:
    """Whether an answer says that it is."""
    size = next((value for name, value in connection.headers if name == b"content-length"), b"")
    return size.isdigit() and int(size) <= WHOLE_BYTES


async def watch(receive: Receive, connection: Connection) -> None:
    """End an exchange when the client leaves."""
    with contextlib.suppress(Exception):
        while (await receive())["type"] != "http.disconnect":
            pass
    if not connection.done:
        connection.fail(ClientGone())


def problem_of(service: str, error: UpstreamError | None) -> Problem:
    """What the client hears when every attempt has failed."""
    if error is None or isinstance(error, NotSent):
        return unavailable(f"no instance of {service} can be reached")
    if isinstance(error, TimedOut):
        return Problem(GATEWAY_TIMEOUT, f"{service} did not answer in time")
    return Problem(BAD_GATEWAY, f"{service} broke off before its answer was whole")


def host(scope: Scope) -> bytes:
    """The host that the client asked for."""
    return next((value for name, value in scope["headers"] if name == b"host"), b"")
