"""Tokens: the clients that get one through the Ingress, and the requests that it allows."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from estate.stack.model import Stack, secret
from tests.support.running import connect, create, reads_back

USERS = "/api/v1/users"


@pytest.fixture
def stranger(urls: dict[str, str]) -> Iterator[httpx.Client]:
    """Yield a client without a token."""
    with connect(urls["gateway"]) as stranger:
        yield stranger


def ask(stranger: httpx.Client, client_secret: str) -> httpx.Response:
    return stranger.post(
        "/auth/token", data={"grant_type": "client_credentials"}, auth=httpx.BasicAuth("operator", client_secret)
    )


def test_a_client_that_knows_its_secret_gets_a_token_that_the_api_takes(
    stack: Stack, urls: dict[str, str], stranger: httpx.Client, new_user: dict[str, Any]
) -> None:
    answer = ask(stranger, secret(stack, "operatorSecret"))
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    token = answer.json()["access_token"]
    with connect(urls["gateway"], token) as client:
        user = create(client, new_user)
        assert reads_back(client, user)
        assert client.delete(f"{USERS}/{user['id']}", headers={"If-Match": "*"}).status_code == 204
    head, claims, signature = token.split(".")
    # The last character of a signature holds bits that no decoder reads; the first one does not.
    tampered = ".".join([head, claims, ("A" if signature[0] != "A" else "B") + signature[1:]])
    refused = stranger.get(USERS, headers={"Authorization": f"Bearer {tampered}"})
    assert (refused.status_code, refused.json()["title"]) == (401, "Invalid token")


def test_a_client_with_a_wrong_secret_gets_none(stranger: httpx.Client) -> None:
    refused = ask(stranger, "wrong")
    assert (refused.status_code, refused.json()["error"]) == (401, "invalid_client")
    assert refused.headers["www-authenticate"].startswith("Basic ")


def test_a_request_without_a_token_is_answered_401(stranger: httpx.Client) -> None:
    refused = stranger.get(USERS)
    assert (refused.status_code, refused.json()["title"]) == (401, "Missing token")
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.headers["www-authenticate"] == "Bearer"
