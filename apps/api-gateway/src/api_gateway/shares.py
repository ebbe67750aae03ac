"""Shares: limits of a service's requests in flight, and of one client's part of them.

Places are counted for each service, so that one that hangs takes none from the others; the gateway's own endpoints count as one more
service. A place is taken before any waiting (for a body, an instance, a reader), and WebSockets keep theirs while they are open.
"""

from hashlib import blake2b
from ipaddress import IPv6Address, ip_address, ip_network
from types import TracebackType
from typing import Self

from prometheus_client import Counter, Gauge
from servicekit.caching import remembered
from servicekit.observation import MAX_ADDRESS
from servicekit.problems import Kind, Problem, unavailable
from servicekit.tokens import Claims

PLACES = 1000
"""Maximum concurrent requests to a service; more are refused immediately, so that the others stay fast."""
SHARE = 100
"""Maximum places of a service for one client: it takes ten clients to fill them."""
RETRY_AFTER_S = 1
KEY_LIMIT_BYTES = 128
"""Maximum bytes of a client's key, by which counts are kept here and in Redis; longer ones, and those that are not UTF-8, are hashed."""
SITE_PREFIX = 64
"""Bits of an IPv6 address that identify its network: the owner of one address has all of the /64 (RFC 4291, section 2.5.4)."""
TOO_MANY_AT_ONCE = Kind(429, "too-many-at-once", "Too many requests at once")
"""Problem with status 429 (RFC 6585, section 4), as in Kubernetes' API Priority and Fairness. nginx' limit_conn and Envoy's circuit breakers
answer 503, which would count the client's own fault against the service's objectives."""
SHED = Counter(
    "gateway_shed",
    "Requests that were refused because the service or the client had too many, or the breaker was open",
    ["reason"],
)
IN_FLIGHT = Gauge("gateway_in_flight", "Requests in flight, and WebSockets", ["service"])
LIMIT = Gauge("gateway_in_flight_limit", "Most of them for each service; more are refused")
LIMIT.set(PLACES)


def client_key(claims: Claims | None, address: str) -> str:
    """Return the key by which a client is counted: the subject of its token, otherwise its address.

    Args:
        claims: claims of its verified token; those without a subject are ignored.
        address: address of the client.
    """
    if claims and claims.get("sub"):
        # Subjects are unique within their issuer only (RFC 7519, section 4.1.2).
        return bounded(f"sub:{claims['iss']!r}:{claims['sub']}")
    return f"address:{network(address)}"


def bounded(key: str) -> str:
    """Return a key, or its hash if it is long or not UTF-8: JSON may hold half a surrogate pair."""
    if key.isascii() and len(key) <= KEY_LIMIT_BYTES:  # the usual case
        return key
    encoded = key.encode(errors="surrogatepass")
    kept = len(encoded) <= KEY_LIMIT_BYTES and encoded == key.encode(errors="replace")
    return key if kept else f"hash:{blake2b(encoded, digest_size=32).hexdigest()}"


@remembered(1024, MAX_ADDRESS)
def network(address: str) -> str:
    """Return the network of one client: an IPv4 address, or an IPv6 /64. All values that are not addresses are one client."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return "unknown"
    if not isinstance(parsed, IPv6Address):
        return str(parsed)
    if parsed.ipv4_mapped:
        return str(parsed.ipv4_mapped)
    return str(ip_network((int(parsed), SITE_PREFIX), strict=False))


class Pool:
    """The places of one service.

    Args:
        service: name of the service.
    """

    def __init__(self, service: str) -> None:
        self.service = service
        self.taken = 0
        self.by_client: dict[str, int] = {}
        IN_FLIGHT.labels(service).set_function(lambda: self.taken)


class Place:
    """A place that is taken until it is released; further releases have no effect.

    Args:
        pool: pool of its service.
        client: key of the client; None if the place counts for no client.
    """

    __slots__ = ("_client", "_pool")

    def __init__(self, pool: Pool, client: str | None) -> None:
        pool.taken += 1
        if client is not None:
            pool.by_client[client] = pool.by_client.get(client, 0) + 1
        self._pool: Pool | None = pool
        self._client = client

    def release(self) -> None:
        """Return the place to its pool."""
        pool, client = self._pool, self._client
        if pool is None:
            return
        self._pool = None
        pool.taken -= 1
        if client is None:
            return
        if left := pool.by_client[client] - 1:
            pool.by_client[client] = left
        else:
            del pool.by_client[client]

    def __enter__(self) -> Self:
        """Return the place itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Release the place."""
        self.release()


class Shares:
    """The places of every service."""

    def __init__(self) -> None:
        self._pools: dict[str, Pool] = {}

    def take(self, service: str, client: str | None) -> Place:
        """Take a place.

        Args:
            service: service of the request.
            client: key of the client; None if a trusted peer does not name the client, so that no share can be counted.

        Raises:
            Problem: 429, the client has used its share; 503, the service has no place left.
        """
        pool = self._pools.get(service)
        if pool is None:
            pool = self._pools[service] = Pool(service)
        if client is not None and pool.by_client.get(client, 0) >= SHARE:
            SHED.labels("client").inc()
            detail = f"at most {SHARE} requests to {service} at once; end one, or wait"
            raise Problem(TOO_MANY_AT_ONCE, detail, {"Retry-After": str(RETRY_AFTER_S)})
        if pool.taken >= PLACES:
            SHED.labels("concurrency").inc()
            raise unavailable(f"{service} has too many requests in flight")
        return Place(pool, client)
