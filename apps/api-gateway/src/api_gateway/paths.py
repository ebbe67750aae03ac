"""The forms of paths and hosts that are accepted: those that the gateway and every service behind it read alike."""

import re

from servicekit.caching import remembered

HOST_LIMIT_BYTES = 255
"""Maximum bytes of a remembered host: no name is longer (RFC 1035, section 2.3.4)."""
HOST = re.compile(rb"(?:[A-Za-z0-9._~-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?")
"""Pattern of a name or an address, with an optional port: the hosts of RFC 3986 that name one (RFC 9112, section 3.2)."""
USUAL = re.compile(rb"(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+/?")
"""Pattern that matches most paths, in half of the time that TRICKS takes."""
TRICKS = re.compile(
    rb"%2f|%5c|%2e|%00|%25|\\|//|/\.\.?(?:/|$|;)|;|[\x00-\x20\x7f-\xff]|%(?![0-9a-f]{2})", re.IGNORECASE
)
"""Pattern of encoded slashes, dots, percents and nulls, backslashes, empty and dot segments, path parameters, and characters beyond ASCII.
If the gateway and a service read them differently, a request gets past the route's rules (CWE-22, CWE-436)."""


def plain(raw_path: bytes) -> bool:
    """Return whether a path, as it was sent, has only one meaning."""
    if USUAL.fullmatch(raw_path):
        return True
    return raw_path.startswith(b"/") and TRICKS.search(raw_path) is None


@remembered(1024, HOST_LIMIT_BYTES)
def is_host(value: bytes) -> bool:
    """Return whether the value of a Host field is accepted."""
    return HOST.fullmatch(value) is not None
