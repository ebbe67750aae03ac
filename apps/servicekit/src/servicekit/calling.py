"""Calls to another service of the estate, made while a request is served."""

import asyncio
import logging
import re
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson
from fastapi import Request
from yarl import URL

from servicekit.bodies import parse_json
from servicekit.problems import BAD_ANSWER, Problem, unavailable
from servicekit.settings import Called
from servicekit.tracing import Trace, recorded

log = logging.getLogger(__name__)
IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})
FAILED = (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError)
"""Errors of a failed connection: the instance has ended, or never existed."""
CONNECT_S = 1.0
ANSWERING_S = 0.05
"""Seconds of a request's remaining time that are reserved for responding after a call has failed."""
DEADLINE = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True)
class Answer:
    """A service's response, with any status."""

    callee: str
    status: int
    headers: Mapping[str, str]
    """Headers; their names are case-insensitive."""
    body: bytes

    def json(self) -> Any:
        """Return the value of the JSON body, with numbers that have a fraction or an exponent as Decimal.

        Raises:
            Problem: 502, the body is not JSON.
        """
        try:
            return parse_json(self.body)
        except ValueError as error:
            raise Problem(BAD_ANSWER, f"{self.callee} answered {self.status} with what is no JSON") from error


class Callee:
    """Another service, called by this one.

    Connections are not kept: each call connects to one of the pods that are ready at the time, so that calls are spread over them, and none is
    sent to a pod that has begun to terminate.

    Args:
        name: name of the service.
        settings: address of the service and the terms of calls to it.
    """

    def __init__(self, name: str, settings: Called) -> None:
        self.name = name
        self.settings = settings
        self._url = URL(settings.url)
        self._session: Any = None

    async def open(self) -> None:
        """Open the client session."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(force_close=True),
            cookie_jar=aiohttp.DummyCookieJar(),  # a user's cookies must not reach another user
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S),
            auto_decompress=False,  # the limit is for received bytes
            headers={"Accept-Encoding": "identity"},
        )
        self._session._retry_connection = False  # aiohttp 3.14 has no other switch; tests count the requests

    async def close(self) -> None:
        """Close the client session, with the calls in progress."""
        await self._session.close()

    async def call(
        self,
        request: Request,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        json: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Return the response to a call, which may take the time that the served request has left.

        If the connection fails, an idempotent call is sent once more.

        Args:
            request: served request: its id, its trace and, if the settings say so, its token are passed on.
            method: method of the call.
            path: path of the call, with unquoted segments, which are quoted here.
            query: query of the call.
            json: body of the call; None for no body.
            headers: further headers.

        Raises:
            Problem: 503, the service cannot be reached or does not respond in time; 502, its response is too large.
            ValueError: the path is invalid.
        """
        target = target_of(self._url, path, query)
        deadline = time.perf_counter() + time_left_s(request, self.settings.timeout_s)
        passed = {**(headers or {}), **self._context(request)}
        body = None if json is None else orjson.dumps(json)
        if body is not None:
            passed["Content-Type"] = "application/json"
        try:
            async with asyncio.timeout(deadline - time.perf_counter()):
                with traced(request, f"{method} {self.name}", self._about(method, path)) as trace:
                    if trace:
                        passed["traceparent"] = trace.traceparent
                    return await self._ask(method, target, passed, body, deadline)
        except FAILED as error:
            log.warning("A call failed", extra={"callee": self.name, "reason": f"{type(error).__name__}: {error}"})
            raise unavailable(f"{self.name} cannot be reached for the moment") from error
        except TimeoutError as error:
            raise unavailable(f"{self.name} did not answer in time") from error
        except aiohttp.ClientError as error:
            raise Problem(BAD_ANSWER, f"{self.name} answered with what is no HTTP") from error

    async def _ask(
        self, method: str, target: URL, headers: dict[str, str], body: bytes | None, deadline: float
    ) -> Answer:
        if method in IDEMPOTENT:
            try:
                return await self._once(method, target, headers, body, deadline)
            except FAILED as error:
                log.info(
                    "A call is made again", extra={"callee": self.name, "reason": f"{type(error).__name__}: {error}"}
                )
        return await self._once(method, target, headers, body, deadline)

    async def _once(
        self, method: str, target: URL, headers: dict[str, str], body: bytes | None, deadline: float
    ) -> Answer:
        left_ms = max(int((deadline - time.perf_counter()) * 1000), 1)
        passed = headers | {"X-Request-Timeout-Ms": str(left_ms)}
        limit = self.settings.answer_limit_bytes
        async with self._session.request(method, target, headers=passed, data=body, allow_redirects=False) as answer:
            read = b""
            async for piece in answer.content.iter_any():
                read += piece
                if len(read) > limit:
                    raise Problem(BAD_ANSWER, f"{self.name} answered with more than {limit} bytes")
            return Answer(self.name, answer.status, answer.headers, read)

    def _context(self, request: Request) -> dict[str, str]:
        """Return the headers that pass on the served request's id and, if configured, its token."""
        token = request.headers.get("authorization") if self.settings.passes_token else None
        request_id = request.scope.get("request_id")
        return ({"X-Request-ID": request_id} if request_id else {}) | ({"Authorization": token} if token else {})

    def _about(self, method: str, path: str) -> dict[str, str | int]:
        return {
            "http.request.method": method,
            "url.path": path,
            "server.address": self._url.host or "",
            "server.port": self._url.port or 0,
        }


def time_left_s(request: Request, default_s: float) -> float:
    """Return the seconds that a call may take: those left of the deadline that the caller gave the request, if any, otherwise a default.

    Raises:
        Problem: 503, no time is left.
    """
    given = request.headers.get("x-request-timeout-ms", "")
    if not DEADLINE.fullmatch(given):
        return default_s
    gone_s = time.perf_counter() - request.scope.get("started", time.perf_counter())
    left_s = int(given) / 1000 - gone_s - ANSWERING_S
    if left_s <= 0:
        raise unavailable("the time for this request is over")
    return left_s


def target_of(url: URL, path: str, query: Mapping[str, str] | None) -> URL:
    """Return a URL with a path whose segments are exactly the given ones.

    Raises:
        ValueError: the path does not begin with a slash, or has segments that would lead elsewhere.
    """
    if not path.startswith("/") or path.startswith("//") or {".", ".."} & set(path.split("/")):
        raise ValueError(f"a path begins with one slash and has no part . or .., unlike {path!r}")
    return url.with_path(path).with_query(query)


@contextmanager
def traced(request: Request, name: str, about: Mapping[str, str | int]) -> Generator[Trace | None]:
    """Record a call as a child span of the served request, if that is recorded, and yield the trace context to pass on."""
    trace: Trace | None = request.scope.get("trace")
    if trace is None or trace.span is None:
        yield trace
        return
    with recorded(trace.span, name, about) as span:
        yield span.trace()
