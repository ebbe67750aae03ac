"""The proxy: a lean ASGI app that streams a request to an instance and the response back."""

import asyncio
import contextlib
import sys
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import cast

from servicekit import background
from servicekit.asgi import App, Receive, Scope, Send
from servicekit.bodies import ClientGone, ClientTooSlow, content_length, encoded, piece, refuse, too_slow
from servicekit.http1 import Cycle
from servicekit.observation import QUIET, Answer, identify
from servicekit.problems import Kind, Problem, unavailable
from servicekit.tokens import Claims, UnknownKeyError, Verifier, missing
from servicekit.tracing import Trace

from api_gateway import answers, cors, headers, paths, tunnel
from api_gateway.connection import FOREVER, Connection, NotSent, Stale, TimedOut, UpstreamError
from api_gateway.directory import Directory
from api_gateway.forwarded import Peers
from api_gateway.limits import RateLimits
from api_gateway.merging import OWN
from api_gateway.resilience import State
from api_gateway.routes import Route
from api_gateway.service import RETRIES, Failure, UpstreamService
from api_gateway.shares import SHED, Place, Shares, client_key
from api_gateway.upstream import TICK_S, Upstream

WHOLE_BYTES = 64 * 1024
"""Maximum bytes of a response that is buffered until it is complete, so that one that breaks off can be retried."""
PATIENCE_S = 0.2
"""Seconds after which the proxy starts to watch for a disconnect of the client."""
BAD_GATEWAY = Kind(502, "bad-gateway", "The service failed")
GATEWAY_TIMEOUT = Kind(504, "gateway-timeout", "The service did not answer in time")
MALFORMED_REQUEST = Kind(400, "malformed-request", "The request can be read in more than one way")
METHOD_NOT_ALLOWED = Kind(405, "method-not-allowed", "Method Not Allowed")
OWN_FIELDS = frozenset({b"host", b"authorization", b"content-length", b"transfer-encoding", b"connection"})
"""Fields that the gateway itself interprets."""
IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})


class BrokenOff(Exception):  # noqa: N818
    """Error for an instance that failed in the middle of its response, after the client got a part of it."""


class Again(Exception):  # noqa: N818
    """Signal to try another instance."""


@dataclass(slots=True)
class Exchange:
    """A request in progress."""

    route: Route
    scope: Scope
    receive: Receive
    started: float
    fields: "RequestFields"
    key: bytes
    """Key of the client, for balancers that use it."""
    trace: Trace
    """Trace of the current attempt if it has a span; otherwise of the request."""
    ours: headers.Headers
    limited: headers.Headers
    """Headers with the state of the client's rate limit."""
    place: Place
    """Place among the service's requests in flight; whoever ends the exchange releases it."""
    body: bytes = b""
    """The whole body, or its first piece."""
    more: bool = False
    """True if more of the body follows; the request then goes to one instance only."""
    tried: list[Upstream] = field(default_factory=list[Upstream])
    answered: bool = False
    """True if the client has received a part of the response."""


@dataclass(slots=True)
class Begun:
    """An exchange that has been sent to its first instance."""

    exchange: Exchange
    service: UpstreamService
    upstream: Upstream
    connection: Connection


@dataclass(slots=True)
class RequestFields:
    """The headers of a request that affect routing and framing."""

    hosts: int = 0
    host: bytes = b""
    authorizations: int = 0
    authorization: str | None = None
    length: int | None = None
    """Bytes of the body, if the client has declared them."""
    chunked: bool = False
    codings: int = 0
    """Number of Transfer-Encoding headers."""
    named: frozenset[bytes] = frozenset()
    """Fields that Connection names."""

    @property
    def bodiless(self) -> bool:
        """Return whether no body follows the head."""
        return self.length is None and not self.codings


class Proxy:
    """Reverse proxy: sends the routes' paths to their services, and all others to the gateway's own endpoints.

    Args:
        own: app of the gateway's own endpoints.
        directory: routes and the services that they name.
        verifier: verifier of tokens.
        peers: trusted proxies.
        limits: rate limits of clients.
    """

    upgrades = True

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
        self.loop: asyncio.AbstractEventLoop
        self.shares = Shares()
        self._waiting: dict[Connection, Receive] = {}
        self._watchers: dict[Connection, asyncio.Task[None]] = {}
        self._clock: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Start to watch deadlines."""
        self.loop = asyncio.get_running_loop()
        self._clock = background.start("deadlines", self._tick)

    async def close(self) -> None:
        """Stop watching deadlines."""
        await background.end(self._clock)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        begun: Begun | None = scope.pop("begun", None)
        route = begun.exchange.route if begun else self._route(scope)
        if route is None:
            await self._serve_own(scope, receive, send)
            return
        if cors.is_preflight(route, scope):
            await send({"type": "http.response.start", "status": 204, "headers": cors.preflight(route, scope)})
            await send({"type": "http.response.body", "body": b""})
            return
        send = answers.completing(route, scope, send)
        exchange = None
        try:
            exchange = begun.exchange if begun else await self._enter(route, scope, receive)
            if begun is None:
                await read_first(exchange)
            if "take" in scope:
                await self._tunnel(exchange, send)
            else:
                await self._forward(exchange, send, begun)
        except ClientTooSlow:
            if exchange is None or not exchange.answered:
                await refuse(too_slow(), send)
        except (ClientGone, BrokenOff):
            pass
        except Problem as problem:
            await refuse(problem, send)
        finally:
            if exchange:
                exchange.place.release()

    async def _serve_own(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the gateway's own endpoints. Probes and scrapes need no place, so they are answered even when none is left."""
        if scope["type"] != "http" or (scope["path"] in QUIET and scope["method"] in ("GET", "HEAD")):
            await self.own(scope, receive, send)
            return
        try:
            place = self.shares.take(OWN, self._share_key(None, self.peers.client(scope)[0]))
        except Problem as problem:
            await refuse(problem, send)
            return
        with place:
            await self.own(scope, receive, send)

    def _share_key(self, claims: Claims | None, address: str) -> str | None:
        """Return the key of the client that a request is counted for; None if a trusted peer does not name the client."""
        is_unnamed = claims is None and bool(self.peers.trusts(address))
        return None if is_unnamed else client_key(claims, address)

    def at_once(self, scope: Scope, cycle: Cycle, respond: Answer) -> bool:
        """Serve a request without a task, which costs less.

        This works for a request without a body, sent on an idle connection, with a buffered response. In any other case `_forward` continues
        from the current state.
        """
        route = self._route(scope)
        if route is None or cycle.flow.write_paused:  # the response has to wait for a client that does not read
            return False
        if cors.is_preflight(route, scope):
            return False
        fields = request_fields(scope)
        if not fields.bodiless:
            return False
        try:
            check(route, scope, fields)
            claims = self.verifier.claims(fields.authorization) if asks(route, fields) else None
            exchange = self._admit(route, scope, cast("Receive", cycle.receive), fields, claims)
        except UnknownKeyError:  # its key may be found by a fetch
            return False
        except Problem as problem:
            status, given, body = encoded(problem)
            respond(status, answers.completed(route, scope, status, given), body)
            return True
        try:
            begun = self._begin(exchange)
            if begun is None:
                scope["admitted"] = exchange
                return False
            self._hear(begun, cycle, respond)
        except BaseException:
            exchange.place.release()
            raise
        return True

    def _begin(self, exchange: Exchange) -> Begun | None:
        """Send a request to its first instance; return None if that needs more than an idle connection."""
        route = exchange.route
        service = self.directory.services.get(route.service)
        if service is None or service.breaker.state is not State.CLOSED:
            return None
        upstream = service.choose(route.balance, exchange.key, (), exchange.started)
        connection = upstream.idle() if upstream else None
        if upstream is None or connection is None:
            return None
        try:
            service.budget.earn()
            exchange.tried.append(upstream)
            begin_attempt(exchange, upstream)
            self._send(exchange, service, connection, 1, exchange.started)
        except BaseException:
            self._release(connection, upstream)
            raise
        return Begun(exchange, service, upstream, connection)

    def _hear(self, begun: Begun, cycle: Cycle, respond: Answer) -> None:
        """Respond as soon as the instance has; any other outcome is handled in a task."""
        exchange, service, upstream, connection = begun.exchange, begun.service, begun.upstream, begun.connection

        def heard() -> None:
            good = not connection.failed and connection.status < 500
            if good and not connection.done and small(connection):
                return
            connection.heard = None
            if not (good and connection.done):
                go_on(begun, cycle)
                return
            exchange.place.release()
            status, body = connection.status, connection.taken()
            self._release(connection, upstream)
            try:
                service.succeeded(upstream, self.loop.time())
                if connection.surplus:
                    service.report(upstream, surplus(exchange), self.loop.time())
                given = headers.downstream(connection.headers, connection.length)
                given += exchange.limited
                given = answers.completed(exchange.route, exchange.scope, status, given)
                end_attempt(exchange, status)
            except Exception as error:  # noqa: BLE001 - there is no task to report it
                respond.fail(error)
            else:
                respond(status, given, body)

        if connection.failed:
            go_on(begun, cycle)
        else:
            connection.heard = heard

    def _route(self, scope: Scope) -> Route | None:
        route = self.directory.table.find(scope["path"]) if scope["type"] == "http" else None
        if route:
            scope["route_template"] = route.template
        return route

    async def _enter(self, route: Route, scope: Scope, receive: Receive) -> Exchange:
        """Admit a request, after authentication.

        Raises:
            Problem: the request is refused.
        """
        if admitted := scope.pop("admitted", None):
            return admitted
        fields = request_fields(scope)
        check(route, scope, fields)
        claims = await self._authenticate(route, scope, fields) if asks(route, fields) else None
        exchange = self._admit(route, scope, receive, fields, claims)
        exchange.more = not fields.bodiless
        return exchange

    async def _authenticate(self, route: Route, scope: Scope, fields: RequestFields) -> Claims | None:
        """Verify a token. While its key is fetched, the request has a place by its address, since no more is known of the client."""
        try:
            return self.verifier.claims(fields.authorization)
        except UnknownKeyError:
            with self.shares.take(route.service, self._share_key(None, self.peers.client(scope)[0])):
                return await self.verifier.authenticate(fields.authorization)

    def _admit(
        self, route: Route, scope: Scope, receive: Receive, fields: RequestFields, claims: Claims | None
    ) -> Exchange:
        """Admit a request, and count it for its client.

        Raises:
            Problem: 429, the client exceeds its rate limit or its share of requests in flight; 503, the service has too many in flight.
        """
        identify(scope, claims)
        client, chain, scheme = self.peers.client(scope)
        key = self._share_key(claims, client)
        limited = self.limits.take(route.prefix, route.rate_limit, key) if route.rate_limit and key else []
        ours = [
            (b"x-forwarded-for", chain),
            (b"x-forwarded-host", fields.host),
            (b"x-forwarded-proto", scheme),
            scope["id_field"],
        ]
        place = self.shares.take(route.service, key)
        return Exchange(
            route, scope, receive, self.loop.time(), fields, client.encode(), scope["trace"], ours, limited, place
        )

    async def _forward(self, exchange: Exchange, send: Send, begun: Begun | None) -> None:
        """Send the request to one instance after another until one has responded.

        Args:
            exchange: request.
            send: channel to the client.
            begun: first attempt, if it was sent already.

        Raises:
            Problem: 503, there is no instance to try; 502 or 504, those that were tried failed.
            BrokenOff: an instance failed in the middle of its response.
        """
        service = self._service(exchange)
        if begun is None:
            service.budget.earn()
            if not service.breaker.allows(exchange.started):
                SHED.labels("breaker").inc()
                raise unavailable(f"{service.name} fails; it is tried again in some seconds")
        error: UpstreamError | None = None
        attempts = 0
        while upstream := begun.upstream if begun else self._choose(service, exchange):
            sent = begun.connection if begun else None
            begun = None
            attempts += 1
            try:
                await self._attempt(exchange, service, upstream, attempts, send, sent)
            except Again:
                continue
            except NotSent as failure:
                error = failure  # not sent, so that any request may go to the next instance
            except UpstreamError as failure:
                if exchange.answered:
                    raise BrokenOff from failure
                error = failure
                if not may_repeat(exchange, service, attempts, self.loop.time()):
                    break
            else:
                return
        raise problem_of(service.name, error)

    async def _tunnel(self, exchange: Exchange, send: Send) -> None:
        """Open a WebSocket to an instance, and relay bytes in both directions until one side has closed it.

        Raises:
            Problem: no instance opens one.
        """
        service = self._service(exchange)
        error: UpstreamError | None = None
        while upstream := self._choose(service, exchange):
            upstream.tunnels += 1
            begin_attempt(exchange, upstream)
            try:
                end, status, given = await tunnel.connect(upstream, upgrading(exchange), exchange.route.timeout_s)
                end_attempt(exchange, status)
                if not tunnel.accepted(status, given):
                    tunnel.close(end)
                    if status >= 500:
                        service.report(upstream, no_websocket(exchange, status), self.loop.time())
                    raise refused(service.name, status)
                await send({"type": "http.response.start", "status": status, "headers": opening(given, exchange)})
                client = tunnel.End()
                exchange.scope["take"](client)
                await tunnel.last(end, client)
            except NotSent as failure:
                end_attempt(exchange, failure=failure)
                service.failed(upstream, failure_of(exchange, failure), self.loop.time())
                error = failure
            except UpstreamError as failure:
                end_attempt(exchange, failure=failure)
                service.failed(upstream, failure_of(exchange, failure), self.loop.time())
                raise problem_of(service.name, failure) from failure
            else:
                return
            finally:
                upstream.tunnels -= 1
        raise problem_of(service.name, error)

    def _service(self, exchange: Exchange) -> UpstreamService:
        """Return the service of a request.

        Raises:
            Problem: 503, the routes have changed since the request arrived, and no longer name the service.
        """
        if service := self.directory.services.get(exchange.route.service):
            return service
        raise unavailable(f"no instance of {exchange.route.service} can be reached")

    def _choose(self, service: UpstreamService, exchange: Exchange) -> Upstream | None:
        upstream = service.choose(exchange.route.balance, exchange.key, exchange.tried, self.loop.time())
        if upstream:
            exchange.tried.append(upstream)
        return upstream

    def _send(
        self, exchange: Exchange, service: UpstreamService, connection: Connection, attempt: int, now: float
    ) -> None:
        """Send the available part of a request, and watch for a disconnect of the client."""
        left_s = time_left_s(exchange, service, attempt, now)
        connection.deadline = now + left_s
        self._waiting[connection] = exchange.receive
        headless = exchange.scope["method"] == "HEAD"
        connection.start(request(exchange, left_s), headless=headless, whole=not exchange.more, now=now)

    def _release(self, connection: Connection, upstream: Upstream) -> None:
        self._waiting.pop(connection, None)
        if watcher := self._watchers.pop(connection, None):
            watcher.cancel()
        upstream.release(connection)

    async def _attempt(
        self,
        exchange: Exchange,
        service: UpstreamService,
        upstream: Upstream,
        attempt: int,
        send: Send,
        sent: Connection | None,
    ) -> None:
        """Try one instance; retry on a new connection if it had closed the reused one (RFC 9112, section 9.3.1).

        Raises:
            Again: the instance responded with an error, and another one is to be tried.
            UpstreamError: the attempt failed; nothing was sent to the client unless the exchange is `answered`.
        """
        try:
            try:
                await self._try(exchange, service, upstream, attempt, send, sent)
            except Stale:
                if not idempotent(exchange):
                    raise
                RETRIES.labels(service.name).inc()
                await self._try(exchange, service, upstream, attempt, send, None, fresh=True)
        except UpstreamError as error:
            service.failed(upstream, failure_of(exchange, error), self.loop.time())
            raise

    async def _try(
        self,
        exchange: Exchange,
        service: UpstreamService,
        upstream: Upstream,
        attempt: int,
        send: Send,
        sent: Connection | None,
        *,
        fresh: bool = False,
    ) -> None:
        """Send a request on one connection, and the response to the client.

        Raises:
            Again: the instance responded with an error, and another one is to be tried.
            UpstreamError: the attempt failed; nothing was sent to the client unless the exchange is `answered`.
        """
        connection = sent
        pump: asyncio.Task[None] | None = None
        try:
            if connection is None:
                begin_attempt(exchange, upstream)
                connection = await upstream.connect(fresh=fresh)
                self._send(exchange, service, connection, attempt, self.loop.time())
            if exchange.more:
                self._waiting.pop(connection, None)
                pump = background.once("upload", send_rest(exchange, connection))
            await connection.head()
            good = self._judge(exchange, service, upstream, connection.status, attempt)
            if not pump and not held(connection):
                connection.deadline = self.loop.time() + exchange.route.timeout_s
            await relay(exchange, connection, send, self.loop)
            if good:
                service.succeeded(upstream, self.loop.time())
            if connection.surplus:
                service.report(upstream, surplus(exchange), self.loop.time())
        finally:
            end_attempt(exchange, connection.status if connection else 0, sys.exception())
            if pump:
                pump.cancel()
            if connection:
                self._release(connection, upstream)

    def _judge(
        self, exchange: Exchange, service: UpstreamService, upstream: Upstream, status: int, attempt: int
    ) -> bool:
        """Return whether an instance responded without a server error.

        Raises:
            Again: it did not, and another instance is to be tried.
        """
        if status < 500 or status == HTTPStatus.NOT_IMPLEMENTED:
            return True
        now = self.loop.time()
        service.failed(
            upstream, Failure("status", f"status {status}", exchange.scope["request_id"], answered=True), now
        )
        if may_repeat(exchange, service, attempt, now):
            raise Again
        return False

    async def _tick(self) -> None:
        """Fail exchanges that are past their deadline, and end those that no client waits for."""
        while True:
            await asyncio.sleep(TICK_S)
            now = self.loop.time()
            self.directory.tick(now)
            for connection, receive in list(self._waiting.items()):
                if now - connection.started > PATIENCE_S:
                    del self._waiting[connection]
                    self._watchers[connection] = background.once("watch", watch(receive, connection))


def go_on(begun: Begun, cycle: Cycle) -> None:
    """Continue an exchange in a task."""
    begun.exchange.scope["begun"] = begun
    cycle.go_on()


def begin_attempt(exchange: Exchange, upstream: Upstream) -> None:
    """Record an attempt at an instance, if the request is recorded."""
    trace: Trace = exchange.scope["trace"]
    if trace.span is None:
        return
    method, instance = exchange.scope["method"], upstream.instance
    attributes = {
        "http.request.method": method,
        "url.full": f"http://{instance.address}:{instance.port}{exchange.scope['path']}",
        "server.address": instance.address,
        "server.port": instance.port,
    }
    if len(exchange.tried) > 1:
        attributes["http.request.resend_count"] = len(exchange.tried) - 1
    exchange.trace = trace.span.child(f"{method} {exchange.route.template}", attributes).trace()


def end_attempt(exchange: Exchange, status: int = 0, failure: BaseException | None = None) -> None:
    """Record the outcome of an attempt: its status, and its failure."""
    if exchange.trace.span is None:
        return
    error = str(status) if status >= 400 else type(failure).__name__ if failure else None
    exchange.trace.span.end(attributes={"http.response.status_code": status} if status else None, error=error)


def failure_of(exchange: Exchange, error: UpstreamError) -> Failure:
    """Return the failure of an attempt."""
    return Failure(type(error).__name__, str(error), exchange.scope["request_id"])


def surplus(exchange: Exchange) -> Failure:
    """Return the failure of an instance that sends more bytes after its response."""
    return Failure("Surplus", "the instance sent more than its answer", exchange.scope["request_id"], answered=True)


def no_websocket(exchange: Exchange, status: int) -> Failure:
    """Return the failure of an instance that neither opens a WebSocket nor reports an error of the client."""
    return Failure("Refused", f"it opened no WebSocket: status {status}", exchange.scope["request_id"], answered=True)


def idempotent(exchange: Exchange) -> bool:
    """Return whether a request can be sent again: its method is idempotent (RFC 9110, section 9.2.2), and its body is complete."""
    return exchange.scope["method"] in IDEMPOTENT and not exchange.more


def may_repeat(exchange: Exchange, service: UpstreamService, attempts: int, now: float) -> bool:
    """Return whether to send a request that an instance may have seen to another one; this spends a retry of the budget."""
    again = idempotent(exchange) and attempts < exchange.route.attempts and service.others(exchange.tried)
    in_time = now < exchange.started + exchange.route.timeout_s
    if not (again and in_time and service.budget.spend(now)):
        return False
    RETRIES.labels(service.name).inc()
    return True


def time_left_s(exchange: Exchange, service: UpstreamService, attempt: int, now: float) -> float:
    """Return the seconds for an attempt: all that are left, less the shares of later attempts at other instances."""
    left_s = exchange.started + exchange.route.timeout_s - now
    others = service.others(exchange.tried)
    after = min(exchange.route.attempts - attempt, others) if others and idempotent(exchange) else 0
    return max(left_s / (after + 1), TICK_S)


def request_fields(scope: Scope) -> RequestFields:
    """Return the headers of a request that affect routing and framing."""
    fields = RequestFields()
    for name, value in scope["headers"]:
        if name not in OWN_FIELDS:
            continue
        if name == b"host":
            fields.hosts += 1
            fields.host = value
        elif name == b"authorization":
            fields.authorizations += 1
            fields.authorization = value.decode("latin-1")
        elif name == b"content-length":
            fields.length = length_in(value) if fields.length is None else -1
        elif name == b"transfer-encoding":
            fields.codings += 1
            fields.chunked = value.strip(b" \t").lower() == b"chunked"
        elif name == b"connection":
            fields.named |= headers.named_in(value)
    return fields


def length_in(value: bytes) -> int:
    """Return the length in a Content-Length field; -1 if it is invalid."""
    try:
        return content_length(value)
    except ValueError:
        return -1


def asks(route: Route, fields: RequestFields) -> bool:
    """Return whether a request's token has to be verified."""
    return route.auth == "required" or (route.auth == "optional" and fields.authorization is not None)


def check(route: Route, scope: Scope, fields: RequestFields) -> None:
    """Refuse a request that the gateway and a service could read differently, or that the route does not accept.

    Raises:
        Problem: 400, 405, or 401 if the route requires a token and there is none.
    """
    if not paths.plain(scope["raw_path"]):
        raise Problem(MALFORMED_REQUEST, "the path holds encoded slashes, dot segments or the like")
    if fields.hosts != 1 or fields.authorizations > 1:
        raise Problem(MALFORMED_REQUEST, "send one Host header, and one Authorization header at the most")
    if not paths.is_host(fields.host):
        raise Problem(MALFORMED_REQUEST, "Host is a name or an address, and a port where there is one")
    check_framing(fields)
    if scope["method"] not in route.methods:
        allowed = ", ".join(sorted(route.methods))
        raise Problem(METHOD_NOT_ALLOWED, f"this path takes {allowed}", {"Allow": allowed})
    if route.auth == "required" and not fields.authorization:
        raise missing()


def check_framing(fields: RequestFields) -> None:
    """Refuse a request if the gateway and a service could disagree on its end or its meaning.

    Raises:
        Problem: 400.
    """
    if fields.named and (kept := sorted(name for name in fields.named if headers.end_to_end(name))):
        raise Problem(
            MALFORMED_REQUEST, f"Connection names {kept[0].decode('latin-1')}, which every recipient has to see"
        )
    if fields.length is not None and (fields.length < 0 or fields.codings):
        raise Problem(MALFORMED_REQUEST, "send one Content-Length, or chunks")
    if fields.codings and not (fields.codings == 1 and fields.chunked):
        raise Problem(MALFORMED_REQUEST, "chunked is the only transfer coding that is read here")


async def read_first(exchange: Exchange) -> None:
    """Wait for the first piece of a body, if there is one.

    Raises:
        ClientTooSlow: it did not arrive in time.
        ClientGone: it will not arrive.
    """
    if exchange.more:
        message = await piece(exchange.receive)
        exchange.body, exchange.more = message.get("body", b""), message.get("more_body", False)


def head(exchange: Exchange) -> list[bytes]:
    """Return the lines that the head of every request to a service has."""
    scope = exchange.scope
    lines = [scope["method"].encode(), b" ", scope["target"], b" HTTP/1.1\r\n"]
    lines += headers.upstream(scope["headers"], exchange.ours, exchange.fields.named)
    lines += (b"traceparent: ", exchange.trace.traceparent.encode(), b"\r\n")
    return lines


def upgrading(exchange: Exchange) -> bytes:
    """Return the encoded request for a WebSocket."""
    return b"".join([*head(exchange), b"connection: upgrade\r\nupgrade: websocket\r\n\r\n"])


def opening(given: headers.Headers, exchange: Exchange) -> headers.Headers:
    """Return the headers of the response that opens the client's WebSocket."""
    return [*headers.downstream(given), (b"upgrade", b"websocket"), *exchange.limited]


def refused(service: str, status: int) -> Problem:
    """Return the problem for a WebSocket request that a service did not accept, as it may (RFC 9110, section 7.8).

    Its status is the service's own if that is an error of the client, and 400 if the service treated it as an ordinary request.
    """
    if status >= 500:
        return Problem(BAD_GATEWAY, f"{service} opened no WebSocket; it answered {status}")
    known = HTTPStatus(status) if status >= 400 and status in list(HTTPStatus) else HTTPStatus.BAD_REQUEST
    return Problem(Kind(known, "websocket-refused", known.phrase), f"{service} opens no WebSocket here")


def request(exchange: Exchange, left_s: float) -> bytes:
    """Return an encoded request: its head, and the available part of its body."""
    lines = head(exchange)
    lines.append(b"x-request-timeout-ms: %d\r\n" % (left_s * 1000))
    fields, body = exchange.fields, exchange.body
    if fields.bodiless:
        lines.append(b"\r\n")
    elif not exchange.more:
        lines += (b"content-length: %d\r\n\r\n" % len(body), body)
    elif fields.length is not None:
        lines += (b"content-length: %d\r\n\r\n" % fields.length, body)
    else:
        lines += (b"transfer-encoding: chunked\r\n\r\n", chunk(body))
    return b"".join(lines)


def chunk(data: bytes) -> bytes:
    """Return data as a chunk (RFC 9112, section 7.1); nothing for no data, since an empty chunk is the last one."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


async def send_rest(exchange: Exchange, connection: Connection) -> None:
    """Send the rest of a body as it arrives, no faster than the instance reads it. The instance is not blamed for a slow or lost client."""
    timeout_s = exchange.route.timeout_s
    try:
        more = True
        while more:
            connection.deadline = FOREVER
            message = await piece(exchange.receive)
            connection.deadline = asyncio.get_running_loop().time() + timeout_s
            data, more = message.get("body", b""), message.get("more_body", False)
            connection.write(chunk(data) if exchange.fields.chunked else data)
            await connection.drained()
    except Exception as failure:  # noqa: BLE001 - any failure ends the exchange
        connection.fail(failure)
        return
    if exchange.fields.chunked:
        connection.write(b"0\r\n\r\n")
    connection.sent = True
    await watch(exchange.receive, connection)


async def relay(exchange: Exchange, connection: Connection, send: Send, loop: asyncio.AbstractEventLoop) -> None:
    """Send a response to the client: as a whole if its size is known and small, otherwise piece by piece.

    Raises:
        UpstreamError: the response broke off.
    """
    start = {
        "type": "http.response.start",
        "status": connection.status,
        "headers": headers.downstream(connection.headers, connection.length) + exchange.limited,
    }
    if held(connection):
        body = await connection.whole()
        exchange.answered = True
        await send(start)
        await send({"type": "http.response.body", "body": body})
        return
    exchange.answered = True
    await send(start)
    while part := await connection.chunk():
        # A slow client is not the instance's fault; http1.STALL_S ends it.
        connection.deadline = FOREVER
        await send({"type": "http.response.body", "body": part, "more_body": True})
        connection.deadline = loop.time() + exchange.route.timeout_s
    await send({"type": "http.response.body", "body": b""})


def held(connection: Connection) -> bool:
    """Return whether a response is buffered until it is complete; the attempt's deadline applies to it, since a retry may follow."""
    return connection.done or small(connection)


def small(connection: Connection) -> bool:
    """Return whether a response has a small declared length."""
    return connection.length is not None and connection.length <= WHOLE_BYTES


async def watch(receive: Receive, connection: Connection) -> None:
    """End an exchange when the client disconnects."""
    with contextlib.suppress(Exception):
        while (await receive())["type"] != "http.disconnect":
            pass
    if not connection.done:
        connection.fail(ClientGone())


def problem_of(service: str, error: UpstreamError | None) -> Problem:
    """Return the problem for the client after every attempt has failed."""
    if error is None or isinstance(error, NotSent):
        return unavailable(f"no instance of {service} can be reached")
    if isinstance(error, TimedOut):
        return Problem(GATEWAY_TIMEOUT, f"{service} did not answer in time")
    return Problem(BAD_GATEWAY, f"{service} broke off before its answer was whole")
