"""Types of settings that say where something is, as servicekit.addresses has them for the services. Their errors hold nothing of the value."""

import re
from ipaddress import ip_address
from typing import Annotated
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator

LABEL = r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)"
NAME = re.compile(rf"(?=.{{1,253}}$){LABEL}(?:\.{LABEL})*\.?")
"""Of a host (RFC 1123, section 2.1), with the underscore that clusters' names have."""
URL = re.compile(r"https?://[A-Za-z0-9._~:/?\[\]@!$&'()*+,;=%-]+")
"""Characters of RFC 3986 alone, section 2: urlsplit passes over tabs and line breaks."""


def host(value: str) -> str:
    """Return the name or address of a host.

    Raises:
        ValueError: it is none.
    """
    try:
        ip_address(value)
    except ValueError as error:
        # What ends in a number is an address to browsers and resolvers, and here it is none.
        if not NAME.fullmatch(value) or value.rstrip(".").rpartition(".")[2].isdigit():
            raise ValueError("wants the name or address of a host") from error
    return value


def url(value: str) -> str:
    """Return a URL of HTTP that holds no credentials, which logs and health checks would show.

    Raises:
        ValueError: it is none.
    """
    wanted = "wants http://host or https://host, with a port and a path if need be, and without user and password"
    if not URL.fullmatch(value):
        raise ValueError(wanted)
    place(value, wanted)
    return value


def host_and_port(value: str) -> str:
    """Return an address as host:port.

    Raises:
        ValueError: it is none.
    """
    wanted = "wants host:port, such as collector.example.com:9090"
    parts = place(f"//{value}", wanted)
    if parts.netloc != value or parts.port is None:
        raise ValueError(wanted)
    return value


def place(value: str, wanted: str) -> SplitResult:
    """Return the parts of a URL whose host and port there can be, and which names no user.

    Raises:
        ValueError: `wanted`, in place of the standard library's errors, which quote the value.
    """
    try:
        parts = urlsplit(value)
        host(parts.hostname or "")
        port = parts.port  # above 65535 this itself raises
    except ValueError as error:
        raise ValueError(wanted) from error
    if "@" in parts.netloc or port == 0:
        raise ValueError(wanted)
    return parts


Host = Annotated[str, AfterValidator(host)]
Url = Annotated[str, AfterValidator(url)]
HostAndPort = Annotated[str, AfterValidator(host_and_port)]
