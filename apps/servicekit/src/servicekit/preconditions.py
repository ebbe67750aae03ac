"""Conditional requests (RFC 9110, section 13): entity tags made of a version, so that no update is lost."""

import re
from typing import Annotated

from fastapi import Header

TAG = r'(W/)?"[!#-~]*"'
OURS = re.compile(r'(?<!/)"([0-9]{1,18})"')
"""Strong tags of our form; If-Match compares strongly, so weak ones match nothing."""

IfMatch = Annotated[
    str,
    Header(
        alias="If-Match",
        description="ETag of what is to be changed, or * for whatever there is.",
        pattern=rf"^(\*|{TAG}( *, *{TAG})*)$",
        examples=['"1"'],
    ),
]
IfNoneMatch = Annotated[
    str | None,
    Header(alias="If-None-Match", description="ETag of what the client has already.", examples=['"1"']),
]


def etag(version: int) -> str:
    """The entity tag of a version."""
    return f'"{version}"'


def wanted(if_match: str) -> list[int] | None:
    """Versions that an If-Match header accepts; None for any."""
    if if_match == "*":
        return None
    return [int(version) for version in OURS.findall(if_match)]


def unchanged(if_none_match: str | None, version: int) -> bool:
    """Whether the client has this version already; compares weakly."""
    if not if_none_match:
        return False
    return if_none_match.strip() == "*" or etag(version) in re.findall(r'"[^"]*"', if_none_match)
