"""Types of settings that hold addresses. Their errors show nothing of the value: a wrong one may be a secret."""

import re
from ipaddress import ip_address
from typing import Annotated
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator

LABEL = r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)"
NAME = re.compile(rf"(?=.{{1,253}}$){LABEL}(?:\.{LABEL})*\.?")
"""Pattern of a host's name (RFC 1123, section 2.1), with the underscore that names in clusters have."""
URL = re.compile(r"https?://[A-Za-z0-9._~:/?\[\]@!$&'()*+,;=%-]+")
"""Pattern of a URL, with characters of RFC 3986, section 2, only: urlsplit ignores tabs and line breaks."""


def host(value: str) -> str:
    """Return the name or address of a host.

    Raises:
        ValueError: the value is neither.
    """
    try:
        ip_address(value)
    except ValueError as error:
        # Browsers and resolvers treat a name that ends in a number as an address, and this one is not valid.
        if not NAME.fullmatch(value) or value.rstrip(".").rpartition(".")[2].isdigit():
            raise ValueError("wants the name or address of a host") from error
    return value


def url(value: str) -> str:
    """Return an HTTP URL without credentials, which logs and health checks would show.

    Raises:
        ValueError: the value is not such a URL.
    """
    wanted = "wants http://host or https://host, with a port and a path if need be, and without user and password"
    if not URL.fullmatch(value):
        raise ValueError(wanted)
    place(value, wanted)
    return value


def host_and_port(value: str) -> str:
    """Return an address as host:port.

    Raises:
        ValueError: the value is not of this form.
    """
    wanted = "wants host:port, such as localhost:8500"
    parts = place(f"//{value}", wanted)
    if parts.netloc != value or parts.port is None:
        raise ValueError(wanted)
    return value


def place(value: str, wanted: str) -> SplitResult:
    """Return the parts of a URL with a valid host and port, and without a user.

    Raises:
        ValueError: the URL is invalid; the message is `wanted`, since the standard library's errors quote the value.
    """
    try:
        parts = urlsplit(value)
        host(parts.hostname or "")
        port = parts.port  # raises if it is above 65535
    except ValueError as error:
        raise ValueError(wanted) from error
    if "@" in parts.netloc or port == 0:
        raise ValueError(wanted)
    return parts


Host = Annotated[str, AfterValidator(host)]
Url = Annotated[str, AfterValidator(url)]
HostAndPort = Annotated[str, AfterValidator(host_and_port)]
