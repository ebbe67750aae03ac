"""Shares: how many requests a service may have in flight, and how many of those may be one client's.

Places are counted for each service, so that one that hangs takes none from the others, and the gateway's own endpoints are such a
service too. A place is taken before anything is waited for (a body, an instance, a reader), and WebSockets keep theirs while they are open.
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
"""Requests of a service at once; more are refused at once, so that those that are served stay fast."""
SHARE = 100
"""Of the places of a service, those that one client may have: it takes ten clients to fill them."""
RETRY_AFTER_S = 1
KEY_LIMIT_BYTES = 128
"""The longest key of a client; longer ones are hashed, and those that are no UTF-8. Counts are kept by it, here and in Redis."""
SITE_PREFIX = 64
"""Bits of an IPv6 address that name its network: whoever has one address has all of the /64 (RFC 4291, section 2.5.4)."""
TOO_MANY_AT_ONCE = Kind(429, "too-many-at-once", "Too many requests at once")
"""429 (RFC 6585, section 4), as Kubernetes' API Priority and Fairness answers. nginx' limit_conn and Envoy's circuit breakers answer 503,
which would count against the service's objectives what the client has done itself."""
SHED = Counter(
    "gateway_shed",
    "Requests that were refused because the service or the client had too many, or the breaker was open",
    ["reason"],
)
IN_FLIGHT = Gauge("gateway_in_flight", "Requests in flight, and WebSockets", ["service"])
LIMIT = Gauge("gateway_in_flight_limit", "Most of them for each service; more are refused")
LIMIT.set(PLACES)


def client_key(claims: Claims | None, address: str) -> str:
    """Return the name by which a client is counted: the subject of its token, else its address.

    Args:
        claims: of its verified token; one without a subject counts as none.
        address: of the client.
    """
    if claims and claims.get("sub"):
        # Subjects are unique within their issuer only (RFC 7519, section 4.1.2).
        return bounded(f"sub:{claims['iss']!r}:{claims['sub']}")
    return f"address:{network(address)}"


def bounded(key: str) -> str:
    """Return a key, or its hash where it is long or no UTF-8: JSON may hold half a surrogate pair."""
    encoded = key.encode(errors="surrogatepass")
    kept = len(encoded) <= KEY_LIMIT_BYTES and encoded == key.encode(errors="replace")
    return key if kept else f"hash:{blake2b(encoded, digest_size=32).hexdigest()}"


@remembered(1024, MAX_ADDRESS)
def network(address: str) -> str:
    """Return what one client has of the address space: an IPv4 address, or an IPv6 /64. All that is no address is one client."""
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
        service: its name.
    """

    def __init__(self, service: str) -> None:
        self.service = service
        self.taken = 0
        self.by_client: dict[str, int] = {}
        IN_FLIGHT.labels(service).set_function(lambda: self.taken)


class Place:
    """A place that is taken until it is released, be it more than once.

    Args:
        pool: of its service.
        client: that has it; None where it counts for no one.
    """

    __slots__ = ("_client", "_pool")

    def __init__(self, pool: Pool, client: str | None) -> None:
        pool.taken += 1
        if client is not None:
            pool.by_client[client] = pool.by_client.get(client, 0) + 1
        self._pool: Pool | None = pool
        self._client = client

    def release(self) -> None:
        """Give the place back."""
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
        """Keep the place."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Give it back."""
        self.release()


class Shares:
    """The places of every service."""

    def __init__(self) -> None:
        self._pools: dict[str, Pool] = {}

    def take(self, service: str, client: str | None) -> Place:
        """Take a place.

        Args:
            service: that is asked.
            client: its key; None where a trusted peer does not name the client, so that no share can be counted.

        Raises:
            Problem: 429, the client has its share; 503, the service has no place left.
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
