"""The endpoints that every service has: /livez, /readyz, /health, /health/details, /metrics."""

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from servicekit import metrics
from servicekit.health import Health, Result


def router(
    health: Health, ready: tuple[str, ...], vital: tuple[str, ...], more: Callable[[], dict[str, Any]] = dict
) -> APIRouter:
    """The router of these endpoints.

    Args:
        health: the checks of the service.
        ready: names of those without which it cannot serve.
        vital: names of those without which it is unhealthy; without any other it is degraded.
        more: what else the details tell.
    """
    routes = APIRouter(include_in_schema=False)

    @routes.get("/livez")
    async def livez() -> dict[str, str]:  # pyright: ignore[reportUnusedFunction]
        return {"status": "healthy"}

    @routes.get("/readyz")
    async def readyz() -> JSONResponse:  # pyright: ignore[reportUnusedFunction]
        return answer(await health.report(*ready) if ready else {})

    @routes.get("/health")
    async def whole() -> JSONResponse:  # pyright: ignore[reportUnusedFunction]
        return answer(await health.report(*vital) if vital else {})

    @routes.get("/health/details")
    async def details() -> JSONResponse:  # pyright: ignore[reportUnusedFunction]
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


def answer(results: dict[str, Result]) -> JSONResponse:
    """200 when every check passed, 503 with the reasons otherwise."""
    healthy = all(result.healthy for result in results.values())
    checks = {name: described(result) for name, result in results.items()}
    return JSONResponse({"status": "healthy" if healthy else "unhealthy", "checks": checks}, 200 if healthy else 503)


def described(result: Result) -> dict[str, Any]:
    """A result for a person."""
    return {"status": "healthy"} if result.healthy else {"status": "unhealthy", "reason": result.reason}
