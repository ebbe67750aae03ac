"""Bodies: bounds of requests in size and time, none for answers to HEAD, and what is JSON."""

import asyncio
import json
from decimal import Decimal
from typing import Any

import orjson

from servicekit.asgi import App, Headers, Message, Receive, Scope, Send
from servicekit.problems import BODY_TOO_LARGE, MALFORMED, MEDIA_TYPE, REQUEST_TIMEOUT, Problem

CLIENT_S = 20.0
"""For a client to send the next piece of its body."""
LENGTH_DIGITS = 18
"""Of a Content-Length, less leading zeros: what 64 bits with a sign hold for sure, here and in whatever comes next."""


class ClientGone(Exception):  # noqa: N818
    """The client has left."""


class ClientTooSlow(ClientGone):
    """The client does not send the rest of its request."""


class Bounded:
    """An ASGI app with limits of the size and the time of a request body; one beyond them is refused before the app sees it.

    Args:
        app: the app.
        limit_bytes: the largest body.
    """

    def __init__(self, app: App, limit_bytes: int) -> None:
        self.app = app
        self.limit_bytes = limit_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http" or scope["method"] not in ("POST", "PUT", "PATCH", "DELETE"):
            await self.app(scope, receive, send)
            return
        declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        try:
            body = b"" if content_length(declared) <= self.limit_bytes else None
        except ValueError as error:
            await refuse(Problem(MALFORMED, str(error), {"Connection": "close"}), send)
            return
        more = body is not None
        try:
            while body is not None and more:
                message = await piece(receive)
                body += message.get("body", b"")
                more = message.get("more_body", False)
                if len(body) > self.limit_bytes:
                    body = None
        except ClientTooSlow:
            await refuse(too_slow(), send)
            return
        except ClientGone:
            return
        if body is None:
            await refuse(Problem(BODY_TOO_LARGE, f"the body may have {self.limit_bytes} bytes at most"), send)
            return
        await self.app(scope, replay(body, receive), send)


class Head:
    """An ASGI app that answers HEAD as GET (RFC 9110, section 9.3.2); the server leaves the body out.

    Args:
        app: the app.
    """

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self.app(scope, receive, send)
            return
        as_get = {**scope, "method": "GET"}  # a copy: the server goes on to see HEAD
        await self.app(as_get, receive, send)
        scope.update({name: as_get[name] for name in ("route", "subject") if name in as_get})


async def piece(receive: Receive) -> Message:
    """Return the next piece of a body.

    Raises:
        ClientTooSlow: it did not come in time.
        ClientGone: it will not come.
    """
    try:
        async with asyncio.timeout(CLIENT_S):
            message = await receive()
    except TimeoutError:
        raise ClientTooSlow from None
    if message["type"] == "http.disconnect":
        raise ClientGone
    return message


def content_length(value: bytes) -> int:
    """Return the length in bytes that a Content-Length field gives (RFC 9110, section 8.6).

    Raises:
        ValueError: it is no number, or one that not every program can hold.
    """
    digits = value.strip(b" \t")
    significant = digits.lstrip(b"0")
    if not digits.isdigit() or len(significant) > LENGTH_DIGITS:
        raise ValueError(f"Content-Length is a number of {LENGTH_DIGITS} digits at most")
    return int(significant or b"0")


def parse_json(body: bytes) -> Any:
    """Return what a body of JSON holds, numbers with a fraction or an exponent as Decimal.

    Raises:
        JSONDecodeError: it is none by RFC 8259 and RFC 7493: in UTF-8 without a mark in front, with Unicode alone and names that are
            unique, numbers that a double can hold, and some 1000 levels.
    """
    orjson.loads(body)  # to the letter, which Python's own does not keep to
    text = body.decode()
    try:
        return json.loads(text, object_pairs_hook=unique, parse_float=Decimal)
    except (ArithmeticError, RecursionError) as error:
        raise json.JSONDecodeError("beyond the limits of numbers or levels", text, 0) from error


def unique(members: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the members of an object.

    Raises:
        JSONDecodeError: two have the same name.
    """
    found: dict[str, Any] = {}
    for name, value in members:
        if name in found:
            raise json.JSONDecodeError(f"{name!r} is there twice", "", 0)
        found[name] = value
    return found


def too_slow() -> Problem:
    """Return 408: the rest of a body did not come in time, so that the connection has to end."""
    return Problem(REQUEST_TIMEOUT, f"no more of the body came for {CLIENT_S:g} s", {"Connection": "close"})


def replay(body: bytes, receive: Receive) -> Receive:
    """A channel that gives a body that was read already, and then what comes after it."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


def encoded(problem: Problem) -> tuple[int, Headers, bytes]:
    """Status, headers and body of a problem, for answers from outside any framework."""
    body = json.dumps(problem.body()).encode()
    fixed = [(b"content-type", MEDIA_TYPE.encode()), (b"content-length", str(len(body)).encode())]
    extra = [(name.lower().encode(), value.encode()) for name, value in problem.headers.items()]
    return problem.kind.status, [*fixed, *extra], body


async def refuse(problem: Problem, send: Send) -> None:
    """Answer with a problem."""
    status, headers, body = encoded(problem)
    start: Message = {"type": "http.response.start", "status": status, "headers": headers}
    await send(start)
    await send({"type": "http.response.body", "body": body})
