"""Setting types for hosts, URLs and networks, as servicekit.addresses has them for the services. Their errors never quote the value."""

import re
from ipaddress import ip_address, ip_interface, ip_network
from typing import Annotated
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, Field

LABEL = r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)"
NAME = re.compile(rf"(?=.{{1,253}}$){LABEL}(?:\.{LABEL})*\.?")
"""Pattern of a host name (RFC 1123, section 2.1), with the underscore that names in clusters have."""
URL = re.compile(r"https?://(?:[A-Za-z0-9._~:/?\[\]@!$&'()*+,;=-]|%[0-9A-Fa-f]{2})+")
"""Pattern of a URL, with characters of RFC 3986, section 2, only: urlsplit ignores tabs and line breaks."""


def host(value: str) -> str:
    """Return the name or address of a host.

    Raises:
        ValueError: the value is invalid.
    """
    if "%" in value:
        raise ValueError("wants no zone (%), which names an interface of one machine")
    try:
        ip_address(value)
    except ValueError as error:
        # Browsers and resolvers take a name that ends in a number for an IP address, and this one is not valid.
        if not NAME.fullmatch(value) or value.rstrip(".").rpartition(".")[2].isdigit():
            raise ValueError("wants the name or address of a host") from error
    return value


def url(value: str) -> str:
    """Return an HTTP URL without credentials, which logs and health checks would show.

    Raises:
        ValueError: the value is invalid.
    """
    wanted = "wants http://host or https://host, with a port and a path if need be, and without user and password"
    if not URL.fullmatch(value):
        raise ValueError(wanted)
    place(value, wanted)
    return value


def host_and_port(value: str) -> str:
    """Return an address as host:port.

    Raises:
        ValueError: the value is invalid.
    """
    wanted = "wants host:port"
    parts = place(f"//{value}", wanted)
    if parts.netloc != value or parts.port is None or not value.endswith(f":{parts.port}"):
        raise ValueError(wanted)
    return value


def place(value: str, wanted: str) -> SplitResult:
    """Return the parts of a URL that has a valid host and port, and no user.

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


CIDR = r"[0-9A-Fa-f.:]+/(?:0|[1-9][0-9]{0,2})"
"""Pattern of a CIDR, as in network policies. The prefix length is mandatory, which it is not for Python's ip_network."""


def network(value: str) -> str:
    """Return a network as CIDR.

    Raises:
        ValueError: the value is invalid.
    """
    wanted = "wants a network as CIDR, address/bits"
    if not re.fullmatch(CIDR, value):
        raise ValueError(wanted)
    try:
        ip_interface(value)
    except ValueError as error:
        raise ValueError(wanted) from error
    try:
        ip_network(value)
    except ValueError as error:
        raise ValueError("wants the network itself: this has host bits set") from error
    return value


def console_host(host: str, name: str) -> str:
    """Return the host of a console: consul.example.com for api.example.com, consul-eu.example.com for api-eu.example.com or eu.example.com.

    Two stacks of one domain have separate hosts for their consoles: of two Ingresses with one host, either may answer.
    """
    label, _, domain = host.partition(".")
    own = label.removeprefix("api").removeprefix("-")
    return f"{name}-{own}.{domain}" if own else f"{name}.{domain}"


Host = Annotated[str, AfterValidator(host), Field(examples=["db.example.com"], json_schema_extra={"minLength": 1})]
Url = Annotated[
    str,
    AfterValidator(url),
    Field(examples=["https://collector.example.com:4318"], json_schema_extra={"pattern": "^https?://[^@/]+(?:/|$)"}),
]
HostAndPort = Annotated[
    str,
    AfterValidator(host_and_port),
    Field(examples=["collector.example.com:9090"], json_schema_extra={"pattern": ":[1-9][0-9]{0,4}$"}),
]
Network = Annotated[
    str, AfterValidator(network), Field(examples=["10.0.8.0/24"], json_schema_extra={"pattern": f"^{CIDR}$"})
]
"""A network as CIDR."""
