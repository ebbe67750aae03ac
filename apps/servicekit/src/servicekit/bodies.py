"""Bodies: limits of size and time for requests, responses to HEAD, and JSON."""

import asyncio
import json
from decimal import Decimal
from typing import Any

import orjson

from servicekit.asgi import App, Headers, Message, Receive, Scope, Send
from servicekit.problems import BODY_TOO_LARGE, MALFORMED, MEDIA_TYPE, REQUEST_TIMEOUT, Problem

CLIENT_S = 20.0
"""Seconds for a client to send the next piece of its body."""
LENGTH_DIGITS = 18
"""Maximum digits of a Content-Length without leading zeros: any such number fits into a signed 64-bit integer, here and downstream."""


class ClientGone(Exception):  # noqa: N818
    """Error for a client that has disconnected."""


class ClientTooSlow(ClientGone):
    """Error for a client that does not send the rest of its request."""


class Bounded:
    """ASGI middleware that limits the size and time of a request body; a body beyond a limit is refused before the app gets it.

    Args:
        app: wrapped app.
        limit_bytes: maximum bytes of a body.
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
    """ASGI middleware that handles HEAD as GET (RFC 9110, section 9.3.2); the server omits the body.

    Args:
        app: wrapped app.
    """

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self.app(scope, receive, send)
            return
        as_get = {**scope, "method": "GET"}  # a copy: the server must still see HEAD
        await self.app(as_get, receive, send)
        scope.update({name: as_get[name] for name in ("route", "subject") if name in as_get})


async def piece(receive: Receive) -> Message:
    """Return the next piece of a body.

    Raises:
        ClientTooSlow: it did not arrive in time.
        ClientGone: it will not arrive.
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
        ValueError: the value is not a number, or one that not every program can hold.
    """
    if value.isdigit() and len(value) <= LENGTH_DIGITS:  # the usual case
        return int(value)
    digits = value.strip(b" \t")
    significant = digits.lstrip(b"0")
    if not digits.isdigit() or len(significant) > LENGTH_DIGITS:
        raise ValueError(f"Content-Length is a number of {LENGTH_DIGITS} digits at most")
    return int(significant or b"0")


def parse_json(body: bytes) -> Any:
    """Return the value of a JSON body, with numbers that have a fraction or an exponent as Decimal.

    Raises:
        JSONDecodeError: the body is not valid by RFC 8259 and RFC 7493: UTF-8 without a byte order mark, only Unicode, unique names, numbers
            that a double can hold, and some 1000 levels.
    """
    orjson.loads(body)  # a strict parser, which Python's own is not
    text = body.decode()
    try:
        return json.loads(text, object_pairs_hook=unique, parse_float=Decimal)
    except (ArithmeticError, RecursionError) as error:
        raise json.JSONDecodeError("beyond the limits of numbers or levels", text, 0) from error


def unique(members: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the members of an object.

    Raises:
        JSONDecodeError: two members have the same name.
    """
    found: dict[str, Any] = {}
    for name, value in members:
        if name in found:
            raise json.JSONDecodeError(f"{name!r} is there twice", "", 0)
        found[name] = value
    return found


def too_slow() -> Problem:
    """Return problem 408: the rest of a body did not arrive in time, so the connection has to be closed."""
    return Problem(REQUEST_TIMEOUT, f"no more of the body came for {CLIENT_S:g} s", {"Connection": "close"})


def replay(body: bytes, receive: Receive) -> Receive:
    """Return a receive channel that first yields a body that was read already."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


def encoded(problem: Problem) -> tuple[int, Headers, bytes]:
    """Return status, headers and body of a problem, for responses without a framework."""
    body = json.dumps(problem.body()).encode()
    fixed = [(b"content-type", MEDIA_TYPE.encode()), (b"content-length", str(len(body)).encode())]
    extra = [(name.lower().encode(), value.encode()) for name, value in problem.headers.items()]
    return problem.kind.status, [*fixed, *extra], body


async def refuse(problem: Problem, send: Send) -> None:
    """Respond with a problem."""
    status, headers, body = encoded(problem)
    start: Message = {"type": "http.response.start", "status": status, "headers": headers}
    await send(start)
    await send({"type": "http.response.body", "body": body})
