import asyncio
import time
from contextlib import nullcontext

import httpx
import pytest
from fastapi import APIRouter, Request
from servicekit import problems, routing
from servicekit.bodies import Head
from servicekit.endpoints import answer, router
from servicekit.health import Health
from servicekit.tokens import missing


async def get(routes: APIRouter, path: str) -> httpx.Response:
    app = routing.app("service", lambda _: nullcontext())
    problems.handle(app)
    routing.add(app, routes)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(Head(app)), base_url="http://service") as client:
        return await client.get(path)


async def test_probes_that_arrive_together_share_one_check() -> None:
    asked = 0

    async def check() -> None:
        nonlocal asked
        asked += 1

    health = Health({"database": check})
    await asyncio.gather(*(health.report() for _ in range(50)))
    assert asked == 1


async def test_a_failing_dependency_is_named_with_the_reason() -> None:
    async def fail() -> None:
        raise ConnectionError("refused")

    results = await Health({"database": fail}).report()
    assert answer(results).status_code == 503
    assert results["database"].reason == "ConnectionError: refused"


async def test_a_check_that_hangs_is_unhealthy_in_time() -> None:
    async def hang() -> None:
        await asyncio.Event().wait()

    results = await Health({"database": hang}, timeout_s=0.01).report()
    assert results["database"].reason == "no answer within 0.01 s"


async def test_only_the_named_checks_are_asked() -> None:
    async def fail() -> None:
        raise ConnectionError

    async def pass_() -> None:
        return

    results = await Health({"a": fail, "b": pass_}).report("b")
    assert list(results) == ["b"]
    assert answer(results).status_code == 200


async def test_what_is_not_vital_only_degrades() -> None:
    async def work() -> None: ...

    async def fail() -> None:
        raise ConnectionError("refused")

    routes = router(Health({"database": work, "cache": fail}), ready=("database",), vital=("database",))
    assert (await get(routes, "/health")).status_code == 200
    details = (await get(routes, "/health/details")).json()
    assert details["status"] == "degraded"
    assert details["checks"]["cache"]["reason"] == "ConnectionError: refused"
    assert details["checks"]["database"]["latency_ms"] >= 0


async def test_health_has_the_status_of_each_service_that_it_needs() -> None:
    async def work() -> None: ...

    async def fail() -> None:
        raise ConnectionError("refused")

    before = int(time.time())
    for check, code, status, of_registry in (
        (work, 200, "healthy", {"status": "healthy"}),
        (fail, 503, "unhealthy", {"status": "unhealthy", "reason": "ConnectionError: refused"}),
    ):
        needed = ("database", "registry")
        answered = await get(
            router(Health({"database": work, "registry": check, "cache": fail}), (), needed), "/health"
        )
        body = answered.json()
        assert answered.status_code == code
        assert before <= body.pop("timestamp") <= time.time()
        assert body == {"status": status, "services": {"database": {"status": "healthy"}, "registry": of_registry}}


async def test_the_details_are_for_those_who_are_let_through() -> None:
    async def refuse(_: Request) -> None:
        raise missing()

    routes = router(Health({}), (), (), admit=refuse)
    assert (await get(routes, "/health/details")).status_code == 401
    assert [(await get(routes, path)).status_code for path in ("/health", "/livez", "/readyz")] == [200] * 3


@pytest.mark.parametrize("path", ["/livez/", "/health/", "//livez"])
async def test_no_path_leads_elsewhere(path: str) -> None:
    answered = await get(router(Health({}), (), ()), path)
    assert answered.status_code == 404
    assert "location" not in answered.headers
