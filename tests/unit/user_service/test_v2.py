import base64

import httpx
import pytest
from servicekit.problems import Problem
from user_service.v2 import Sort, decode, encode, profile, select

from tests.unit.user_service.conftest import ADA, THEN, THEN_DIGITS

ROW = {"id": 7, **ADA, "version": 1, "created_at": "2026-01-01T00:00:00.000Z", "updated_at": "2026-01-01T00:00:00.000Z"}


@pytest.mark.parametrize("sort", list(Sort))
def test_a_cursor_leads_back_to_the_user_that_it_was_made_of(sort: Sort) -> None:
    key, last = decode(encode(sort, ROW[sort.field], 7), sort)
    assert last == 7
    assert key == {"id": 7, "name": "Ada", "email": "ada@example.com", "created_at": THEN}[sort.field]


@pytest.mark.parametrize(
    "cursor",
    ["", "x", "WyJuYW1lIiwxLDFd", "bnVsbA", "WyJpZCIsLTEsMV0", encode(Sort.NAME, "Ada", 7), "WyJpZCIsNyw3XQ=="],
)
def test_a_cursor_that_was_not_given_for_this_order_is_refused(cursor: str) -> None:
    with pytest.raises(Problem, match="cursor"):
        decode(cursor, Sort.ID)


def test_a_page_follows_the_sort_key_and_then_the_id() -> None:
    query, values = select(Sort.NAME_DOWN, ("Ada", 7), None, None, 11)
    assert "WHERE (name, id) < ($1, $2) ORDER BY name DESC, id DESC LIMIT $3" in query
    assert values == ["Ada", 7, 11]


def test_wildcards_in_a_filter_are_taken_literally() -> None:
    _, values = select(Sort.ID, None, None, "50%_\\", 11)
    assert values[0] == "50\\%\\_\\\\%"


@pytest.mark.parametrize(("name", "initials"), [("Ada Lovelace", "AL"), ("Plato", "P"), ("Jean Paul Sartre", "JS")])
def test_a_profile_has_initials(name: str, initials: str) -> None:
    assert profile(ROW | {"name": name})["initials"] == initials


async def test_a_user_has_times_and_a_profile(client: httpx.AsyncClient) -> None:
    assert (await client.get("/api/v2/users/1")).json()["created_at"] == "2026-01-01T00:00:00.000Z"
    shown = await client.get("/api/v2/users/1/profile")
    assert shown.json()["display_name"] == "Ada"
    assert (
        await client.get("/api/v2/users/1/profile", headers={"If-None-Match": f'"3-{THEN_DIGITS}"'})
    ).status_code == 304


async def test_a_page_names_the_next_one(client: httpx.AsyncClient) -> None:
    await client.post("/api/v2/users", json=ADA | {"email": "bob@example.com"})
    page = await client.get("/api/v2/users?limit=1&name=A")
    assert [user["id"] for user in page.json()["items"]] == [1]
    assert page.json()["next"].startswith("/api/v2/users?limit=1&name=A&cursor=")
    assert page.headers["link"] == f'<{page.json()["next"]}>; rel="next"'


@pytest.mark.parametrize("cursor", ["", "%20", "x", "="])
async def test_a_cursor_that_is_none_begins_no_list(client: httpx.AsyncClient, cursor: str) -> None:
    refused = await client.get(f"/api/v2/users?cursor={cursor}")
    assert (refused.status_code, refused.json()["type"]) == (400, "/problems/malformed-cursor")


@pytest.mark.parametrize(
    "time", ["0001-01-01T00:00:00.000+23:59", "9999-12-31T23:59:59.999-23:59", "2026-11-26T11:18:17.098+02:00"]
)
async def test_a_cursor_with_a_time_of_another_zone_is_none(client: httpx.AsyncClient, time: str) -> None:
    cursor = base64.urlsafe_b64encode(f'["created_at","{time}",1]'.encode()).decode().rstrip("=")
    refused = await client.get(f"/api/v2/users?sort=created_at&cursor={cursor}")
    assert (refused.status_code, refused.json()["type"]) == (400, "/problems/malformed-cursor")


@pytest.mark.parametrize("given", ['w/"{}"', '*, "{}"', '"x" "{}"', "{}", ""])
async def test_a_reader_who_names_no_entity_tag_means_no_state(client: httpx.AsyncClient, given: str) -> None:
    made = await client.post("/api/v2/users", json=ADA)
    url, tag = made.headers["location"], made.headers["etag"].strip('"')
    assert (await client.get(url, headers={"If-Match": given.format(tag)})).status_code == 412
    assert (await client.get(url, headers={"If-None-Match": given.format(tag)})).status_code == 200
    assert (await client.get(url, headers={"If-Match": f'"x", "{tag}"'})).status_code == 200
