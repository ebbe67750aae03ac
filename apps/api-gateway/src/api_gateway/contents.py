"""Static contents: compressed once, revalidated by ETag, and sent no faster than the client reads."""

import asyncio
import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from fastapi import Request
from fastapi.responses import Response
from servicekit.preconditions import combined
from starlette.types import Receive, Scope, Send

PIECE_BYTES = 16 * 1024
"""Bytes of a piece of a body, which waits for its reader: a server that gets the whole body keeps a copy of it for each slow client."""


class Paced(Response):
    """A response in pieces, each in an iteration of the event loop of its own and once the client has read those before it.

    Starlette's StreamingResponse takes a group of tasks for each response, which is most of its cost.
    """

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """Send the response."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        for start in range(0, len(self.body), PIECE_BYTES):
            piece = self.body[start : start + PIECE_BYTES]
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            await asyncio.sleep(0)
        await send({"type": "http.response.body", "body": b""})


@dataclass(frozen=True)
class Content:
    """A content in both codings: plain and gzip."""

    media_type: str
    plain: bytes
    gzipped: bytes
    etag: str

    def answer(self, request: Request, headers: Mapping[str, str]) -> Response:
        """Return the response to a request, in a coding that it accepts.

        Args:
            request: GET or HEAD request.
            headers: headers of the response, in addition to those that follow from the content.
        """
        body, etag, coding = self.plain, f'"{self.etag}"', dict[str, str]()
        if accepts_gzip(combined(request, "accept-encoding")):
            # Another coding is another representation, which a strong ETag must distinguish (RFC 9110, section 8.8.3.3).
            body, etag, coding = self.gzipped, f'"{self.etag}-gzip"', {"Content-Encoding": "gzip"}
        common = {**headers, "ETag": etag, "Vary": "Accept-Encoding"}
        if is_known(combined(request, "if-none-match"), etag):
            return Response(status_code=304, headers=common)
        return Paced(body, headers=common | coding, media_type=self.media_type)


def content(body: bytes, media_type: str) -> Content:
    """Return a content. It is compressed here, which takes time."""
    return Content(media_type, body, gzip.compress(body, mtime=0), hashlib.sha256(body).hexdigest()[:32])


def accepts_gzip(accepted: str) -> bool:
    """Return whether an Accept-Encoding header accepts gzip (RFC 9110, section 12.5.3)."""
    weights: dict[str, bool] = {}
    for word in accepted.lower().split(","):
        coding, _, parameter = word.partition(";")
        weights[coding.strip()] = parameter.replace(" ", "").rstrip("0.") != "q="
    return weights.get("gzip", weights.get("x-gzip", weights.get("*", False)))


def is_known(known: str, etag: str) -> bool:
    """Return whether an If-None-Match header names an ETag, compared weakly (RFC 9110, section 13.1.2)."""
    return known.strip() == "*" or etag in (word.strip().removeprefix("W/") for word in known.split(","))
