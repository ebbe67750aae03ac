"""Who asks: the peer, or whom a trusted peer says it asks for."""

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address

from servicekit.observation import Scope

Network = IPv4Network | IPv6Network


class Peers:
    """Tells peers that are ours, such as the Ingress, from the rest of the world.

    Args:
        trusted: networks whose X-Forwarded-… and X-Request-ID are believed.
    """

    def __init__(self, trusted: Iterable[Network]) -> None:
        networks = tuple(trusted)

        def inside(address: str) -> bool:
            try:
                return any(ip_address(address) in network for network in networks)
            except ValueError:
                return False

        self.trusts = lru_cache(maxsize=4096)(inside)

    def trusted(self, scope: Scope) -> bool:
        """Whether a request's peer is."""
        client = scope.get("client")
        return bool(client) and self.trusts(client[0])

    def client(self, scope: Scope) -> tuple[str, bytes, bytes]:
        """The client's address, the whole chain for X-Forwarded-For, and the scheme that it used."""
        peer: str = scope["client"][0] if scope.get("client") else ""
        if not self.trusts(peer):
            return peer, peer.encode(), scope.get("scheme", "http").encode()
        said = [v for name, v in scope["headers"] if name == b"x-forwarded-for"]
        schemes = [v for name, v in scope["headers"] if name == b"x-forwarded-proto"]
        chain = [hop.strip() for value in said for hop in value.decode("latin-1").split(",")]
        client = next((hop for hop in reversed(chain) if not self.trusts(hop)), chain[0] if chain else peer)
        scheme = schemes[0] if schemes and schemes[0] in (b"http", b"https") else b"http"
        return client, ", ".join([*chain, peer]).encode("latin-1"), scheme
