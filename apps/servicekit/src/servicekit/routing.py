"""Routes of an API: FastAPI's, preceded by checks that apply to all of them."""

from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.routing import APIRoute
from fastapi.telemetry import TelemetryConfig
from starlette.types import Lifespan

from servicekit.bodies import parse_json
from servicekit.observation import identify
from servicekit.problems import MALFORMED_HEADER, UNSUPPORTED_MEDIA_TYPE, Problem

Handler = Callable[[Request], Coroutine[Any, Any, Response]]
SINGLETONS = frozenset((b"authorization", b"content-type", b"idempotency-key"))
"""Fields with a single value that the API reads: given two, programs would differ in which one they use (RFC 9110, section 5.3)."""


class JsonRequest(Request):
    """A request with a body of strict JSON; FastAPI turns an error into a problem."""

    async def json(self) -> Any:
        """Return the value of the body."""
        return parse_json(await self.body())


class ApiRoute(APIRoute):
    """A route that first authenticates the caller (`app.state.verifier`), then checks that the body is declared as JSON.

    The claims of the caller's token are in `request.state.claims`.
    """

    def get_route_handler(self) -> Handler:
        """Return the handler of a request."""
        answer = self.answering()
        accepted = ("application/json", *(["application/merge-patch+json"] if "PATCH" in (self.methods or ()) else []))
        has_body = self.body_field is not None

        async def handle(request: Request) -> Response:
            refuse_repeated(request)
            verifier = request.app.state.verifier
            request.state.claims = await verifier.authenticate(request.headers.get("authorization"))
            identify(request.scope, request.state.claims)
            if not has_body:
                return await answer(request)
            check_content(request, accepted)
            return await answer(JsonRequest(request.scope, request.receive))

        return handle

    def answering(self) -> Handler:
        """Return the handler that follows the checks."""
        return super().get_route_handler()


def refuse_repeated(request: Request) -> None:
    """Refuse a request that repeats a field with a single value.

    Raises:
        Problem: 400, with the field's name.
    """
    sent = [name for name, _ in request.scope["headers"] if name in SINGLETONS]
    for name in set(sent):
        if sent.count(name) > 1:
            raise Problem(MALFORMED_HEADER, f"send {name.decode()} once")


def check_content(request: Request, accepted: Sequence[str]) -> None:
    """Refuse a body with an unaccepted media type, or a content coding (RFC 9110, sections 8.4 and 15.5.16).

    Raises:
        Problem: 415, with the accepted ones.
    """
    sent = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if sent not in accepted:
        raise Problem(UNSUPPORTED_MEDIA_TYPE, f"send {' or '.join(accepted)}", {"Accept": ", ".join(accepted)})
    codings = ",".join(request.headers.getlist("content-encoding")).split(",")
    if {coding.strip().lower() for coding in codings} - {"", "identity"}:
        raise Problem(
            UNSUPPORTED_MEDIA_TYPE, "send the body as it is, without Content-Encoding", {"Accept-Encoding": "identity"}
        )


class DirectRoute(ApiRoute):
    """A route whose endpoint gets the request and the raw path parameters: FastAPI documents it, but spends no time on it.

    It is for the few most frequent routes. Other parameters of the endpoint have defaults, and exist only for the document.
    """

    def answering(self) -> Handler:
        """Return a handler that calls the endpoint directly."""
        endpoint = self.endpoint

        async def answer(request: Request) -> Response:
            return await endpoint(request=request, **request.path_params)

        return answer


def app(title: str, lifespan: Lifespan[FastAPI]) -> FastAPI:
    """Return an app that serves no documents, and leaves observation to `observation`, which also covers the gateway's proxy."""
    unobserved: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False}
    return FastAPI(
        title=title,
        lifespan=lifespan,
        telemetry=unobserved,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # a redirect's URL would contain Host, which a client may choose; a path with an extra slash is another path
    )


def add(app: FastAPI, routes: APIRouter) -> None:
    """Add a router's routes to an app, each with its whole path.

    FastAPI's own include_router nests routers, which takes time at every request, and gives metrics and logs only half the path.
    """
    app.router.routes.extend(routes.routes)
