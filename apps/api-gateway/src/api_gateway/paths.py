"""The forms of paths and hosts that are let through: those that the gateway and every service behind it read alike."""

import re

HOST = re.compile(rb"(?:[A-Za-z0-9._~-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?")
"""A name or an address, and perhaps a port: of RFC 3986's hosts, those that name one (RFC 9112, section 3.2)."""
USUAL = re.compile(rb"(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+/?")
"""What most paths are; found out at a fifth of the time."""
TRICKS = re.compile(
    rb"%2f|%5c|%2e|%00|%25|\\|//|/\.\.?(?:/|$|;)|;|[\x00-\x20\x7f-\xff]|%(?![0-9a-f]{2})", re.IGNORECASE
)
"""Encoded slashes, dots, percents and nulls, backslashes, empty and dot segments, path parameters, what is not ASCII: read one way here
and another there, they reach what the route's rules were to keep from them (CWE-22, CWE-436)."""


def plain(raw_path: bytes) -> bool:
    """Whether a path, as it was sent, has one meaning only."""
    if USUAL.fullmatch(raw_path):
        return True
    return raw_path.startswith(b"/") and TRICKS.search(raw_path) is None
