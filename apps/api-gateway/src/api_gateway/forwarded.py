"""Determine the client of a request: the peer, or the client that a trusted peer names."""

import re
from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_address

from servicekit.asgi import Scope
from servicekit.caching import remembered
from servicekit.observation import MAX_ADDRESS

Network = IPv4Network | IPv6Network


WITH_PORT = re.compile(r"\[([0-9A-Fa-f:.]+)\](?::[0-9]{1,5})?|([0-9.]+):[0-9]{1,5}", re.ASCII)
"""Pattern of an address with a port, as some load balancers write it (RFC 7239, section 6, has the same forms)."""


def without_port(hop: str) -> str:
    """Return the address of a hop without the port after it, if there is one."""
    found = WITH_PORT.fullmatch(hop)
    return found[1] or found[2] if found else hop


class Peers:
    """The trusted proxies, such as the Ingress, from which X-Forwarded-… headers are accepted.

    Args:
        trusted: networks of the trusted proxies.
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
        """Function that returns whether an address is trusted; None if it is not an address."""

    def trusted(self, scope: Scope) -> bool:
        """Return whether a request's peer is trusted."""
        client = scope.get("client")
        return bool(client and self.trusts(client[0]))

    def address(self, scope: Scope) -> str:
        """Return the client's address."""
        return self.client(scope)[0]

    def client(self, scope: Scope) -> tuple[str, bytes, bytes]:
        """Return the client's address, X-Forwarded-For from that address on, and the scheme of the request; computed once for each request.

        Addresses before the client's are the client's own claim, and are dropped: the first address is the client's.
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
            hop = without_port(word.strip())
            trusted = self.trusts(hop)
            if trusted is not None:
                hops.append(hop)
            if not trusted:
                break
        scheme = schemes[0] if schemes and schemes[0] in (b"http", b"https") else b"http"
        return hops[-1], ", ".join(reversed(hops)).encode(), scheme
