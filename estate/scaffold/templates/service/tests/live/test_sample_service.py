"""sample-service, through the Ingress and the gateway."""

#: database
import uuid

#: end
import httpx
#: calls
import pytest
#: end

from tests.support.running import connect

PATH = "/api/v1/sample-service"
#: calls
CALLED = (
    #: each callee
    "callee-service",
    #: end each
)
#: end


#: database
def test_what_was_created_is_in_the_list(client: httpx.Client) -> None:
    name = uuid.uuid4().hex
    created = client.post(PATH, json={"name": name})
    assert (created.status_code, created.json()["name"]) == (201, name)
    assert created.json() in client.get(PATH).json()
#: else
def test_the_list_is_there(client: httpx.Client) -> None:
    found = client.get(PATH)
    assert (found.status_code, found.json()) == (200, [{"id": 1, "name": "An example"}])
#: end
#: calls


@pytest.mark.parametrize("callee", CALLED)
def test_a_service_that_it_calls_answers_to_the_caller(client: httpx.Client, callee: str) -> None:
    assert client.get(f"{PATH}/calls/{callee}").status_code == 200
#: end


def test_without_a_token_there_is_no_answer(urls: dict[str, str]) -> None:
    with connect(urls["gateway"]) as stranger:
        assert stranger.get(PATH).status_code == 401
