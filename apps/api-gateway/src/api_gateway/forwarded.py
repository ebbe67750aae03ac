"""Find the client of a request: the peer, or the one that a trusted peer says it asks for."""

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_address

from servicekit.asgi import Scope
from servicekit.caching import remembered
from servicekit.observation import MAX_ADDRESS

Network = IPv4Network | IPv6Network


class Peers:
    """Tells peers that are ours, such as the Ingress, from the rest of the world.

    Args:
        trusted: networks from which X-Forwarded-… is believed.
    """

    def __init__(self, trusted: Iterable[Network]) -> None:
        networks = tuple(trusted)

        def inside(address: str) -> bool | None:
            try:
                parsed = ip_address(address)
            except ValueError:
                return None
            return any(parsed in network for network in networks)

        self.trusts = remembered(4096, MAX_ADDRESS)(inside)
        """Says of an address if it is one of ours; None where it is no address."""

    def trusted(self, scope: Scope) -> bool:
        """Whether a request's peer is."""
        client = scope.get("client")
        return bool(client and self.trusts(client[0]))

    def address(self, scope: Scope) -> str:
        """Return the client's address."""
        return self.client(scope)[0]

    def client(self, scope: Scope) -> tuple[str, bytes, bytes]:
        """Return the client's address, X-Forwarded-For from it on, and the scheme that it used; found once for each request.

        What stands before the client's address is that client's own claim, and is dropped: the first address is the client's.
        """
        found = scope.get("forwarded")
        if found is None:
            found = scope["forwarded"] = self._client(scope)
        return found

    def _client(self, scope: Scope) -> tuple[str, bytes, bytes]:
        peer: str = scope["client"][0] if scope.get("client") else ""
        if not self.trusts(peer):
            return peer, peer.encode(), scope.get("scheme", "http").encode()
        said = b",".join([v for name, v in scope["headers"] if name == b"x-forwarded-for"])
        schemes = [v for name, v in scope["headers"] if name == b"x-forwarded-proto"]
        hops = [peer]
        for word in reversed(said.decode("latin-1").split(",")):
            hop = word.strip()
            trusted = self.trusts(hop)
            if trusted is not None:
                hops.append(hop)
            if not trusted:
                break
        scheme = schemes[0] if schemes and schemes[0] in (b"http", b"https") else b"http"
        return hops[-1], ", ".join(reversed(hops)).encode(), scheme
