import json
from typing import Any

import httpx
import pytest
from servicekit.problems import MEDIA_TYPE

from tests.unit.user_service.conftest import ADA

USERS = "/api/v1/users"


async def test_a_user_is_found_by_id(client: httpx.AsyncClient) -> None:
    found = await client.get(f"{USERS}/1")
    assert found.json() == {"id": 1, **ADA}
    assert found.headers["etag"] == '"3"'


@pytest.mark.parametrize("tag", ['"3"', 'W/"3"', '"1", "3"', "*"])
async def test_what_the_client_has_already_is_not_sent_again(client: httpx.AsyncClient, tag: str) -> None:
    assert (await client.get(f"{USERS}/1", headers={"If-None-Match": tag})).status_code == 304


async def test_the_list_is_bounded(client: httpx.AsyncClient) -> None:
    assert (await client.get(f"{USERS}?after=0&limit=1")).json() == [{"id": 1, **ADA}]
    assert (await client.get(f"{USERS}?limit=1001")).status_code == 422


@pytest.mark.parametrize("number", ["abc", "1.5", "0", "-1", "+1", "1_0", "9223372036854775808", "%D9%A1"])
@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_an_id_that_is_none_is_a_bad_request(client: httpx.AsyncClient, number: str, method: str) -> None:
    refused = await client.request(method, f"{USERS}/{number}", headers={"If-Match": "*"})
    assert refused.status_code == 400
    assert refused.headers["content-type"] == MEDIA_TYPE
    assert refused.json()["type"] == "/problems/malformed-path"


async def test_an_unknown_user_is_not_found(client: httpx.AsyncClient) -> None:
    assert (await client.get(f"{USERS}/7")).json() == {
        "type": "/problems/user-not-found",
        "title": "There is no such user",
        "status": 404,
        "detail": "there is no user 7",
    }


async def test_a_created_user_has_a_location_and_a_tag(client: httpx.AsyncClient) -> None:
    created = await client.post(USERS, json=ADA)
    assert created.status_code == 201
    assert created.headers["location"] == f"{USERS}/2"
    assert created.headers["etag"] == '"1"'


async def test_a_repeated_key_gets_the_first_answer(client: httpx.AsyncClient) -> None:
    key = {"Idempotency-Key": "k"}
    first, again = [await client.post(USERS, json=ADA, headers=key) for _ in range(2)]
    assert first.status_code == again.status_code == 201
    assert first.json() == again.json()


async def test_a_key_is_not_for_another_user(client: httpx.AsyncClient) -> None:
    key = {"Idempotency-Key": "k"}
    await client.post(USERS, json=ADA, headers=key)
    refused = await client.post(USERS, json=ADA | {"age": 37}, headers=key)
    assert refused.json()["type"] == "/problems/idempotency-key-reused"


async def test_a_taken_email_is_a_conflict(client: httpx.AsyncClient) -> None:
    assert (await client.post(USERS, json=ADA | {"email": "taken@example.com"})).status_code == 409


@pytest.mark.parametrize("body", [b"{", b"", b"\xff", b'{"name": "Ada'])
async def test_invalid_json_is_a_bad_request(client: httpx.AsyncClient, body: bytes) -> None:
    refused = await client.post(USERS, content=body, headers={"content-type": "application/json"})
    assert refused.status_code == (400 if body else 422)  # no body at all: what is missing is the fields


@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", ""])
async def test_what_is_not_json_is_unsupported(client: httpx.AsyncClient, media_type: str) -> None:
    refused = await client.post(USERS, content=b"{}", headers={"content-type": media_type} if media_type else {})
    assert refused.status_code == 415
    assert refused.headers["accept"] == "application/json"


@pytest.mark.parametrize(
    "wrong",
    [{"age": -1}, {"age": 151}, {"age": "36"}, {"age": True}, {"age": 1.5}, {"name": ""}, {"name": " Ada"},
     {"name": "a\0"}, {"name": "\ud800"}, {"email": "nobody"}, {"email": "a@b"}, {"extra": 1}],
)  # fmt: skip
async def test_a_wrong_field_is_named(client: httpx.AsyncClient, wrong: dict[str, Any]) -> None:
    body = json.dumps(ADA | wrong).encode()
    refused = await client.post(USERS, content=body, headers={"content-type": "application/json"})
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["field"] == next(iter(wrong))


async def test_a_change_without_a_precondition_is_refused(client: httpx.AsyncClient) -> None:
    assert (await client.put(f"{USERS}/1", json=ADA)).status_code == 428
    assert (await client.patch(f"{USERS}/1", json={})).status_code == 428
    assert (await client.delete(f"{USERS}/1")).status_code == 428


@pytest.mark.parametrize(("tag", "status"), [('"3"', 200), ("*", 200), ('"2"', 412), ('W/"3"', 412), ("3", 400)])
async def test_a_change_is_made_to_the_version_that_was_seen(client: httpx.AsyncClient, tag: str, status: int) -> None:
    assert (await client.put(f"{USERS}/1", json=ADA, headers={"If-Match": tag})).status_code == status


async def test_a_change_of_one_field_leaves_the_others(client: httpx.AsyncClient) -> None:
    changed = await client.patch(f"{USERS}/1", json={"age": 37}, headers={"If-Match": '"3"'})
    assert changed.json() == {"id": 1, **ADA} | {"age": 37}
    assert changed.headers["etag"] == '"4"'


async def test_a_field_cannot_be_removed(client: httpx.AsyncClient) -> None:
    assert (await client.patch(f"{USERS}/1", json={"age": None}, headers={"If-Match": "*"})).status_code == 422


async def test_a_deleted_user_is_gone(client: httpx.AsyncClient) -> None:
    assert (await client.delete(f"{USERS}/1", headers={"If-Match": '"3"'})).status_code == 204
    assert (await client.get(f"{USERS}/1")).status_code == 404


async def test_a_method_that_there_is_not_is_answered_with_those_that_there_are(client: httpx.AsyncClient) -> None:
    refused = await client.post(f"{USERS}/1")
    assert refused.status_code == 405
    assert refused.headers["allow"] == "DELETE, GET, HEAD, PATCH, PUT"


@pytest.mark.parametrize("path", [f"{USERS}/", f"{USERS}/1/", "/users/", "/health/"])
async def test_a_path_with_a_slash_more_leads_nowhere(client: httpx.AsyncClient, path: str) -> None:
    refused = await client.get(path)
    assert refused.status_code == 404
    assert "location" not in refused.headers
