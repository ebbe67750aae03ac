"""Rotation of the token keys under load: some clients keep an old token, some request a new one again and again."""

import threading
import time
from collections.abc import Generator, Iterator

import httpx
import jwt
import pytest

from estate.ops.token_keys import stored
from estate.ops.tokens import new_token
from estate.stack.model import Stack, secret
from infra.key_sets import kid
from tests.support.load import Load
from tests.support.running import STACK, connect, eventually
from tests.support.stacks import succeed

RENEW_S = 5.0
"""Seconds between two tokens, twelve in a minute: the gateway allows thirty for one address."""
AFTER_S = 10.0
ROW = 30
"""Requests in a row, so that every pod has answered some."""


class Renewed(httpx.Auth):
    """Tokens from POST /auth/token, a new one every RENEW_S."""

    def __init__(self, gateway: httpx.Client, operator_secret: str) -> None:
        self.gateway = gateway
        self.secret = operator_secret
        self.kids: list[str] = []
        """IDs of the keys that signed them, in order."""
        self._one = threading.Lock()
        self._token, self._until = "", 0.0

    def token(self) -> str:
        with self._one:
            if time.monotonic() > self._until:
                answer = self.gateway.post(
                    "/auth/token", data={"grant_type": "client_credentials"}, auth=("operator", self.secret)
                )
                assert answer.status_code == 200, answer.text
                self._token, self._until = answer.json()["access_token"], time.monotonic() + RENEW_S
                self.kids.append(jwt.get_unverified_header(self._token)["kid"])
            return self._token

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response]:
        request.headers["Authorization"] = f"Bearer {self.token()}"
        yield request


@pytest.fixture
def renewed(stack: Stack, urls: dict[str, str]) -> Iterator[Renewed]:
    with connect(urls["gateway"]) as gateway:
        yield Renewed(gateway, secret(stack, "operatorSecret"))


def statuses(client: httpx.Client) -> set[int]:
    return {client.get("/api/v1/users?limit=1").status_code for _ in range(ROW)}


@pytest.mark.timeout(1800)  # the kubelet may need its sync period three times
def test_keys_are_replaced_without_a_refusal_until_the_old_one_is_retired(
    stack: Stack, urls: dict[str, str], renewed: Renewed
) -> None:
    if stored(stack).unretired:
        succeed("keys", "retire", stack=STACK)
    first = stored(stack).current
    with connect(urls["gateway"], new_token(stack)) as old, connect(urls["gateway"]) as new:
        new.auth = renewed
        loads = Load(old, writers=1, readers=2), Load(new, writers=1, readers=2)
        with loads[0], loads[1]:
            succeed("keys", "rotate", stack=STACK)
            loads[0].run(AFTER_S)
        for load in loads:
            load.tidy()
            assert load.failures() == {}
            assert load.stale == []
            print(dict(load.answers))
        second = stored(stack).current
        assert first != second
        assert set(renewed.kids) == {kid(first), kid(second)}
        assert renewed.kids[-1] == kid(second)

        succeed("keys", "retire", stack=STACK)
        eventually(lambda: statuses(old) == {401}, "every pod refuses tokens by the old key", 30)
        assert statuses(new) == {200}
