"""Conditional requests (RFC 9110, section 13): entity tags made of a revision, so that no update is lost."""

import re
from typing import Annotated

from fastapi import Depends, Header, Request

from servicekit.problems import MALFORMED_HEADER, Problem

TAG = r'(W/)?"[!#-~\x80-\xff]*"'
TAGS = rf"^(\*|[ \t,]*{TAG}([ \t]*,([ \t]*{TAG})?)*[ \t]*)$"
"""One line or several, of which one may be empty (RFC 9110, sections 5.3, 5.6.1.2 and 13.1.1)."""
OPAQUE = re.compile(r'(W/)?"([^"]*)"')
"""Whether a tag is weak, and what it names."""

IfNoneMatch = Annotated[
    str | None,
    Header(
        alias="If-None-Match", description="ETag of what the client has already.", examples=['"1-20260101000000000"']
    ),
]
"""Documents the header; `unchanged` reads it."""


def etag(revision: str) -> str:
    """Return the entity tag of a revision."""
    return f'"{revision}"'


def combined(request: Request, name: str) -> str:
    """Return the value of a header, all of its lines (RFC 9110, section 5.3)."""
    return ", ".join(request.headers.getlist(name))


def accepted(
    request: Request,
    if_match: Annotated[  # noqa: ARG001 - documents it, and refuses its absence
        str,
        Header(
            alias="If-Match",
            description="ETag of what is to be changed, or * for whatever there is.",
            examples=['"1-20260101000000000"'],
            json_schema_extra={"pattern": TAGS},
        ),
    ],
) -> list[str] | None:
    """Return the revisions that an If-Match header accepts, None for any; compares strongly (RFC 9110, section 13.1.1).

    Raises:
        Problem: 400, it holds something else than entity tags.
    """
    given = combined(request, "if-match")
    if not re.fullmatch(TAGS, given):
        raise Problem(
            MALFORMED_HEADER, 'send If-Match with ETags in double quotes, such as "1-20260101000000000", or *'
        )
    return None if given == "*" else [revision for weak, revision in OPAQUE.findall(given) if not weak]


IfMatch = Annotated[list[str] | None, Depends(accepted)]
"""Revisions that a change may be made to; None for any."""


def unchanged(request: Request, revision: str) -> bool:
    """Return whether the client has this revision already; compares weakly (RFC 9110, section 13.1.2)."""
    if_none_match = combined(request, "if-none-match")
    return if_none_match.strip() == "*" or revision in (tag for _, tag in OPAQUE.findall(if_none_match))
