"""Static contents: compressed once, revalidated by ETag, and sent no faster than the client reads."""

import asyncio
import gzip
import hashlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

from fastapi import Request
from fastapi.responses import Response, StreamingResponse
from servicekit.preconditions import combined

PIECE_BYTES = 16 * 1024
"""Bytes of a piece of a body, which waits for its reader: a server that gets the whole body keeps a copy of it for each slow client."""


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
        lengths = {"Content-Length": str(len(body))}
        return StreamingResponse(pieces(body), headers=common | coding | lengths, media_type=self.media_type)


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


async def pieces(body: bytes) -> AsyncIterator[bytes]:
    """Yield a body piece by piece, each in an iteration of the event loop of its own, so that other clients are served in between."""
    for start in range(0, len(body), PIECE_BYTES):
        yield body[start : start + PIECE_BYTES]
        await asyncio.sleep(0)
