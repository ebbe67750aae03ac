import asyncio

import httpx
from fastapi import FastAPI
from servicekit.endpoints import answer, router
from servicekit.health import Health


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

    async def get(path: str) -> httpx.Response:
        app = FastAPI()
        app.include_router(router(Health({"database": work, "cache": fail}), ready=("database",), vital=("database",)))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as client:
            return await client.get(path)

    assert (await get("/health")).status_code == 200
    details = (await get("/health/details")).json()
    assert details["status"] == "degraded"
    assert details["checks"]["cache"]["reason"] == "ConnectionError: refused"
    assert details["checks"]["database"]["latency_ms"] >= 0
