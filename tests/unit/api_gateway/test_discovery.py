from typing import Any

import httpx
import pytest
from api_gateway.discovery import Discovery, Instance
from api_gateway.main import create_app
from servicekit.registration import Registration

ENTRY: dict[str, Any] = {
    "Service": {"ID": "a", "Address": "192.0.2.1", "Port": 1},
    "Node": {"Address": ""},
    "Checks": [],
}
NOWHERE = "127.0.0.1:1"


async def test_a_gateway_is_not_ready_before_consul_has_answered_once() -> None:
    app = create_app(NOWHERE, Registration(NOWHERE, "api-gateway", "a", "127.0.0.1", 1))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as client:
        ready = await client.get("/readyz")
    assert ready.status_code == 503
    assert ready.json()["checks"]["first list of user-service"]["reason"] == "ConnectionError: not asked yet"


async def test_a_gateway_that_has_a_list_stays_ready_without_consul() -> None:
    discovery = Discovery(NOWHERE, "user-service")
    with pytest.raises(ConnectionError):
        await discovery.known()
    discovery.take([ENTRY])
    await discovery.known()
    assert discovery.instances == (Instance("a", "192.0.2.1", 1),)
    with pytest.raises(ConnectionError):
        await discovery.check()
