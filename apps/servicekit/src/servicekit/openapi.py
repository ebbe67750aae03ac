"""OpenAPI 3.1 documents, one for each version of an API."""

from collections.abc import Callable
from functools import cache
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from servicekit.problems import ProblemDetails

REF = "#/components/schemas/{model}"
INDEX = "/openapi.json"
"""Path of a service's index of documents: {"documents": [path, …]}. The gateway requests it from every service."""
FASTAPIS = {"HTTPValidationError", "ValidationError"}
"""Schemas of FastAPI's own validation errors, which are never sent: every error is a problem."""


def document(app: FastAPI, title: str, version: str, prefix: str, servers: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the document of the operations below a path.

    Args:
        app: app that serves them.
        title: title of the document.
        version: version of the API.
        prefix: common prefix of their paths.
        servers: URLs at which the API is served.
    """
    routes = [route for route in app.routes if isinstance(route, APIRoute) and route.path.startswith(prefix)]
    made = get_openapi(
        title=title, version=version, openapi_version="3.1.0", routes=routes, servers=[{"url": url} for url in servers]
    )
    schemas = made.setdefault("components", {}).setdefault("schemas", {})
    for name in FASTAPIS:
        schemas.pop(name, None)
    problem = ProblemDetails.model_json_schema(ref_template=REF)
    schemas |= problem.pop("$defs", {}) | {"ProblemDetails": problem}
    for operations in made["paths"].values():
        for operation in operations.values():
            answers = operation["responses"]
            if answers.get("422", {}).get("description") == "Validation Error":
                del answers["422"]
            answers.get("204", {}).pop("content", None)
            answers.get("304", {}).pop("content", None)
    made["components"]["schemas"] = dict(sorted(schemas.items()))
    return made


def router(documents: dict[str, Callable[[], dict[str, Any]]]) -> APIRouter:
    """Return the router of documents and their index.

    Args:
        documents: functions that return the documents, by the path at which each is served.
    """
    routes = APIRouter(include_in_schema=False)
    routes.add_api_route(INDEX, lambda: {"documents": list(documents)}, response_model=None)
    for path, make in documents.items():
        routes.add_api_route(path, cache(make), response_model=None)
    return routes
