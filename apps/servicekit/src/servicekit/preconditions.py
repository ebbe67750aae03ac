"""Conditional requests (RFC 9110, section 13): entity tags made of a revision, so that no update is lost."""

import re
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Header, Request
from pydantic import JsonValue
from pydantic.json_schema import SkipJsonSchema

from servicekit.problems import MALFORMED_HEADER, PRECONDITION_FAILED, Problem

TAG = r'(W/)?"[!#-~\x80-\xff]*"'
TAGS = rf"^(\*|[ \t,]*{TAG}([ \t]*,([ \t]*{TAG})?)*[ \t]*)$"
"""Pattern of one or several lines, one of which may be empty (RFC 9110, sections 5.3, 5.6.1.2 and 13.1.1)."""
OPAQUE = re.compile(r'(W/)?"([^"]*)"')
"""Pattern of a tag: its weakness indicator, and its opaque value."""

MEANT = "ETag of the state that is meant, or * for whatever there is."
NOT_MEANT = "ETag of the state that is not meant, such as the one that the client has already, or * for any."
EXAMPLES = ['"1-20260101000000000"']
PATTERN: dict[str, JsonValue] = {"pattern": TAGS}
OptionalIfMatch = Annotated[str | SkipJsonSchema[None], Header(alias="If-Match", description=MEANT, examples=EXAMPLES)]
"""If-Match header of a read, for the OpenAPI document; `unchanged` reads it, whatever it holds."""
IfNoneMatch = Annotated[
    str | SkipJsonSchema[None], Header(alias="If-None-Match", description=NOT_MEANT, examples=EXAMPLES)
]
"""If-None-Match header of a read, for the OpenAPI document, likewise."""


@dataclass(frozen=True)
class Preconditions:
    """The states that a request applies to: those with an accepted revision and without a refused one; None means every state."""

    accepted: list[str] | None
    refused: list[str] | None


def etag(revision: str) -> str:
    """Return the entity tag of a revision."""
    return f'"{revision}"'


def combined(request: Request, name: str) -> str:
    """Return the value of a header, with all of its lines combined (RFC 9110, section 5.3)."""
    return ", ".join(request.headers.getlist(name))


def revisions(request: Request, name: str, *, weak: bool) -> list[str] | None:
    """Return the revisions in all lines of a header (RFC 9110, section 5.3), None for *.

    Args:
        request: request with the header.
        name: name of the header.
        weak: whether weak tags count: they do only in If-None-Match (sections 13.1.1 and 13.1.2).

    Raises:
        Problem: 400, the header holds something other than entity tags.
    """
    given = combined(request, name)
    if not re.fullmatch(TAGS, given):
        raise Problem(MALFORMED_HEADER, f'send {name} with ETags in double quotes, such as "1-20260101000000000", or *')
    return None if given == "*" else [tag for is_weak, tag in OPAQUE.findall(given) if weak or not is_weak]


def wanted(
    request: Request,
    if_match: Annotated[  # noqa: ARG001 - documents it, and refuses its absence
        str, Header(alias="If-Match", description=MEANT, examples=EXAMPLES, json_schema_extra=PATTERN)
    ],
    if_none_match: Annotated[  # noqa: ARG001 - documented
        str | SkipJsonSchema[None],
        Header(alias="If-None-Match", description=NOT_MEANT, examples=EXAMPLES, json_schema_extra=PATTERN),
    ] = None,
) -> Preconditions:
    """Return the preconditions of a change, which must have If-Match.

    Raises:
        Problem: 400, a header holds something other than entity tags.
    """
    return Preconditions(
        accepted=revisions(request, "if-match", weak=False),
        refused=revisions(request, "if-none-match", weak=True) if "if-none-match" in request.headers else [],
    )


def readable(request: Request, name: str) -> str:
    """Return the value of a header of entity tags; an empty string if it holds anything else."""
    given = combined(request, name)
    return given if re.fullmatch(TAGS, given) else ""


Wanted = Annotated[Preconditions, Depends(wanted)]
"""Preconditions of a change: the response is 412 if one does not hold (RFC 9110, section 13.2.2)."""


def unchanged(request: Request, revision: str) -> bool:
    """Return whether the client already has this revision, by the order of RFC 9110, section 13.2.2.

    A malformed header does a reader no harm: as If-None-Match it matches no state, and as If-Match it matches no existing state.

    Raises:
        Problem: 412, the revision is not one that the request is for.
    """
    accepted, refused = (readable(request, name) for name in ("if-match", "if-none-match"))
    asked = "if-match" in request.headers and accepted != "*"
    if asked and revision not in [tag for weak, tag in OPAQUE.findall(accepted) if not weak]:
        raise Problem(
            PRECONDITION_FAILED, "it is in another state than If-Match has: get it without, and its ETag with it"
        )
    return refused == "*" or revision in [tag for _, tag in OPAQUE.findall(refused)]
