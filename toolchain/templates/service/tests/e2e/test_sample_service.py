"""sample-service, through the Ingress and the gateway."""

import httpx

from tests.running import connect

PATH = "/api/v1/sample-service"


def test_the_list_is_there(client: httpx.Client) -> None:
    found = client.get(PATH)
    assert (found.status_code, found.json()) == (200, [{"id": 1, "name": "An example"}])


def test_without_a_token_there_is_no_answer(urls: dict[str, str]) -> None:
    with connect(urls["gateway"]) as stranger:
        assert stranger.get(PATH).status_code == 401
