"""Errors as application/problem+json (RFC 9457), from one place."""

import logging
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

MEDIA_TYPE = "application/problem+json"
log = logging.getLogger(__name__)


class Problem(Exception):  # noqa: N818 - RFC 9457's word
    """An error for the client.

    Args:
        status: HTTP status code.
        slug: names the kind of problem; its `type` is /problems/<slug> and does not change.
        detail: what happened, and what to do.
        headers: of the answer.
        extension: further members.
    """

    def __init__(
        self, status: int, slug: str, detail: str, headers: dict[str, str] | None = None, **extension: Any
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.slug = slug
        self.detail = detail
        self.headers = headers or {}
        self.extension = extension

    def body(self) -> dict[str, Any]:
        """The members of the problem."""
        return {
            "type": f"/problems/{self.slug}",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
        } | self.extension


def unavailable(detail: str, retry_after_s: int = 1) -> Problem:
    """503: something that this service needs is away for a moment."""
    return Problem(503, "unavailable", detail, {"Retry-After": str(retry_after_s)})


def respond(problem: Problem) -> JSONResponse:
    """The answer to a request that met a problem."""
    return JSONResponse(problem.body(), problem.status, problem.headers, media_type=MEDIA_TYPE)


def handle(app: FastAPI) -> None:
    """Make every error of an app a problem."""

    async def on_problem(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, Problem)  # noqa: S101 - narrows for the type checker
        return respond(error)

    async def on_http(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)  # noqa: S101
        slug = HTTPStatus(error.status_code).phrase.lower().replace(" ", "-")
        return respond(Problem(error.status_code, slug, str(error.detail), dict(error.headers or {})))

    async def on_invalid(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)  # noqa: S101
        return respond(of_validation(error.errors()))

    async def on_unexpected(request: Request, error: Exception) -> JSONResponse:
        log.error("Unexpected error", exc_info=error, extra={"method": request.method})
        return respond(Problem(500, "internal", "this request met an error that is ours; it has been logged"))

    app.add_exception_handler(Problem, on_problem)
    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(RequestValidationError, on_invalid)
    app.add_exception_handler(Exception, on_unexpected)


def of_validation(errors: Sequence[Any]) -> Problem:
    """400 where the request is malformed (path, JSON), 422 where its fields are wrong."""
    found = [
        {"field": ".".join(str(part) for part in e["loc"][1:]) or str(e["loc"][0]), "problem": e["msg"]} for e in errors
    ]
    if any(e["type"] == "json_invalid" for e in errors):
        return Problem(400, "malformed-json", "the body is not valid JSON")
    if any(e["loc"][0] == "path" for e in errors):
        return Problem(400, "malformed-path", "a part of the path is not of the form it must have", errors=found)
    return Problem(422, "invalid-fields", "some fields are missing or wrong", errors=found)
