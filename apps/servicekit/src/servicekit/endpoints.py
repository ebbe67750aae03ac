"""Endpoints of every service: /livez, /readyz, /health, /health/details, /metrics."""

import time
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from servicekit import metrics
from servicekit.health import Health, Result


async def anyone(_: Request) -> None:
    """Admit every request."""


def router(
    health: Health,
    ready: tuple[str, ...],
    vital: tuple[str, ...],
    more: Callable[[], dict[str, Any]] = dict,
    admit: Callable[[Request], Awaitable[None]] = anyone,
) -> APIRouter:
    """Return the router of these endpoints.

    Args:
        health: checks of the service.
        ready: names of the checks that must pass for the service to be ready.
        vital: names of the checks that must pass for it to be healthy; if another one fails, it is degraded.
        more: function that returns further details.
        admit: function that raises a Problem for a caller who may not see the details.
    """
    routes = APIRouter(include_in_schema=False)

    @routes.get("/livez")
    async def livez() -> dict[str, str]:  # pyright: ignore[reportUnusedFunction]
        return {"status": "healthy"}

    @routes.get("/readyz")
    async def readyz() -> JSONResponse:  # pyright: ignore[reportUnusedFunction]
        results = await health.report(*ready) if ready else {}
        return answer(results, checks={name: described(result) for name, result in results.items()})

    @routes.get("/health")
    async def whole() -> JSONResponse:  # pyright: ignore[reportUnusedFunction]
        results = await health.report(*vital) if vital else {}
        services = {name: described(result) for name, result in results.items()}
        return answer(results, timestamp=int(time.time()), services=services)

    @routes.get("/health/details")
    async def details(request: Request) -> JSONResponse:  # pyright: ignore[reportUnusedFunction]
        await admit(request)
        results = await health.report()
        failed = {name for name, result in results.items() if not result.healthy}
        status = "unhealthy" if failed & set(vital) else "degraded" if failed else "healthy"
        checks = {
            name: described(result) | {"vital": name in vital, "latency_ms": round(result.latency_s * 1000, 3)}
            for name, result in results.items()
        }
        return JSONResponse({"status": status, "checks": checks} | more(), 503 if status == "unhealthy" else 200)

    @routes.get("/metrics")
    async def scrape(request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]
        return metrics.expose(request.headers.get("accept", ""))

    return routes


def answer(results: dict[str, Result], **about: Any) -> JSONResponse:
    """Return 200 if every check passed, 503 otherwise."""
    healthy = all(result.healthy for result in results.values())
    return JSONResponse({"status": "healthy" if healthy else "unhealthy"} | about, 200 if healthy else 503)


def described(result: Result) -> dict[str, Any]:
    """Return a result in its form for people."""
    return {"status": "healthy"} if result.healthy else {"status": "unhealthy", "reason": result.reason}
