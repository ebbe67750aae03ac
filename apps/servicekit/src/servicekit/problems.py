"""Errors as application/problem+json (RFC 9457), defined in one place."""

from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.routing import Match

MEDIA_TYPE = "application/problem+json"


@dataclass(frozen=True)
class Kind:
    """A kind of problem: its status, its `type` (/problems/<slug>, which does not change) and its title."""

    status: int
    slug: str
    title: str

    @property
    def uri(self) -> str:
        """Return the problem's `type`."""
        return f"/problems/{self.slug}"


MALFORMED = Kind(400, "malformed-http", "The request is not HTTP/1.1")
MALFORMED_JSON = Kind(400, "malformed-json", "The body is not valid JSON")
MALFORMED_PATH = Kind(400, "malformed-path", "A part of the path is not of the form it must have")
MALFORMED_HEADER = Kind(400, "malformed-header", "A header is not of the form it must have")
MISSING_TOKEN = Kind(401, "missing-token", "Missing token")
INVALID_TOKEN = Kind(401, "invalid-token", "Invalid token")
REQUEST_TIMEOUT = Kind(408, "request-timeout", "The request did not come in time")
BODY_TOO_LARGE = Kind(413, "body-too-large", "The body is too large")
TARGET_TOO_LONG = Kind(414, "target-too-long", "The path and query are too long")
UNSUPPORTED_MEDIA_TYPE = Kind(415, "unsupported-media-type", "The body is not of a supported media type")
INVALID_FIELDS = Kind(422, "invalid-fields", "Some fields are missing or wrong")
PRECONDITION_FAILED = Kind(412, "precondition-failed", "It has changed since")
PRECONDITION_REQUIRED = Kind(428, "precondition-required", "If-Match is missing")
HEAD_TOO_LARGE = Kind(431, "head-too-large", "The header fields are too large")
INTERNAL = Kind(500, "internal", "The service failed")
BAD_ANSWER = Kind(502, "bad-answer", "A service that this one needs has answered wrongly")
UNAVAILABLE = Kind(503, "unavailable", "Something that the service needs is away for a moment")


class Problem(Exception):  # noqa: N818 - RFC 9457's word
    """An error for the client.

    Args:
        kind: kind of problem.
        detail: description of the error, and a remedy.
        headers: headers of the response.
        extension: further members.
    """

    def __init__(self, kind: Kind, detail: str, headers: dict[str, str] | None = None, **extension: Any) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.headers = headers or {}
        self.extension = extension

    def body(self) -> dict[str, Any]:
        """Return the members of the problem."""
        return {
            "type": self.kind.uri,
            "title": self.kind.title,
            "status": self.kind.status,
            "detail": self.detail,
        } | self.extension


class FieldError(BaseModel):
    """What is wrong with one field."""

    field: str
    problem: str


class ProblemDetails(BaseModel):
    """A problem as clients get it."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(description="Names the kind of problem; it does not change.", examples=["/problems/unavailable"])
    title: str
    status: int = Field(ge=400, le=599)
    detail: str
    errors: list[FieldError] | None = Field(default=None, description="The fields that are wrong.")


def documented(*kinds: Kind) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI responses for the kinds of problem that an operation may respond with."""
    by_status: dict[int | str, dict[str, Any]] = {}
    for kind in sorted(kinds, key=lambda k: (k.status, k.slug)):
        content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDetails"}, "examples": {}}}
        said = by_status.setdefault(kind.status, {"description": "", "content": content})
        said["description"] = "; ".join(filter(None, [said["description"], kind.title]))
        example = {"type": kind.uri, "title": kind.title, "status": kind.status, "detail": "what happened here"}
        said["content"][MEDIA_TYPE]["examples"][kind.slug] = {"value": example}
    return by_status


def unavailable(detail: str, retry_after_s: int = 1) -> Problem:
    """Return problem 503: a dependency is temporarily unavailable."""
    return Problem(UNAVAILABLE, detail, {"Retry-After": str(retry_after_s)})


def internal() -> Problem:
    """Return problem 500: an unexpected error."""
    return Problem(INTERNAL, "this request met an error that is ours; it has been logged")


def respond(problem: Problem) -> JSONResponse:
    """Return the response for a problem."""
    return JSONResponse(problem.body(), problem.kind.status, problem.headers, media_type=MEDIA_TYPE)


def handle(app: FastAPI) -> None:
    """Turn every error of an app into a problem."""

    async def on_problem(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, Problem)  # noqa: S101 - narrows for the type checker
        return respond(error)

    async def on_http(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)  # noqa: S101
        headers = dict(error.headers or {})
        if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            headers["Allow"] = ", ".join(sorted(allowed(app, request)))
        phrase = HTTPStatus(error.status_code).phrase
        kind = Kind(error.status_code, phrase.lower().replace(" ", "-"), phrase)
        return respond(Problem(kind, str(error.detail), headers))

    async def on_invalid(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)  # noqa: S101
        return respond(of_validation(error.errors()))

    async def on_unexpected(_: Request, __: Exception) -> JSONResponse:
        return respond(internal())  # Starlette raises the error again, and Observed logs it

    app.add_exception_handler(Problem, on_problem)
    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(RequestValidationError, on_invalid)
    app.add_exception_handler(Exception, on_unexpected)


def allowed(app: FastAPI, request: Request) -> set[str]:
    """Return every method of a path, with HEAD if it has GET (`bodies.Head`); the router itself names the methods of one route only."""
    matching = (route for route in app.routes if route.matches(request.scope)[0] is not Match.NONE)
    methods = {method for route in matching for method in getattr(route, "methods", None) or ()}
    return methods | {"HEAD"} if "GET" in methods else methods


ERRORS_LIMIT = 100
"""Maximum wrong fields that a response names: a body can hold thousands."""


def of_validation(errors: Sequence[Any]) -> Problem:
    """Return problem 400 if the request is malformed (path, header, JSON), 428 if its precondition is missing, 422 if its fields are wrong."""
    found = [
        {"field": ".".join(str(part) for part in e["loc"][1:]) or str(e["loc"][0]), "problem": e["msg"]}
        for e in errors[:ERRORS_LIMIT]
    ]
    if reason := next((e["ctx"]["error"] for e in errors if e["type"] == "json_invalid"), None):
        return Problem(MALFORMED_JSON, f"the body is not valid JSON: {reason}")
    if any(e["loc"][0] == "path" for e in errors):
        return Problem(MALFORMED_PATH, "a part of the path is not of the form it must have", errors=found)
    if any(e["loc"] == ("header", "If-Match") and e["type"] == "missing" for e in errors):
        return Problem(PRECONDITION_REQUIRED, "send If-Match with the ETag that you last saw, or If-Match: *")
    if any(e["loc"][0] == "header" for e in errors):
        return Problem(MALFORMED_HEADER, "a header is not of the form it must have", errors=found)
    return Problem(INVALID_FIELDS, "some fields are missing or wrong", errors=found)
