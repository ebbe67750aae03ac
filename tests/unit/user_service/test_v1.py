import json
from typing import Any
from unicodedata import category
from urllib.parse import quote

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from servicekit.problems import MEDIA_TYPE
from user_service.users import Email, Name

from tests.unit.user_service.conftest import ADA, THEN_DIGITS

USERS = "/api/v1/users"
TAG = f'"3-{THEN_DIGITS}"'


async def test_a_user_is_found_by_id(client: httpx.AsyncClient) -> None:
    found = await client.get(f"{USERS}/1")
    assert found.json() == {"id": 1, **ADA}
    assert found.headers["etag"] == TAG


@pytest.mark.parametrize("lines", [[TAG], [f"W/{TAG}"], [f'"1", {TAG}'], ["*"], ['"1"', TAG], ['"1",', f" W/{TAG}"]])
@pytest.mark.parametrize("path", [f"{USERS}/1", "/api/v2/users/1"])
async def test_what_the_client_has_already_is_not_sent_again(
    client: httpx.AsyncClient, path: str, lines: list[str]
) -> None:
    assert (await client.get(path, headers=[("If-None-Match", line) for line in lines])).status_code == 304


async def test_the_list_is_bounded(client: httpx.AsyncClient) -> None:
    assert (await client.get(f"{USERS}?after=0&limit=1")).json() == [{"id": 1, **ADA}]
    assert (await client.get(f"{USERS}?limit=1001")).status_code == 422


async def test_the_list_goes_on_behind_what_is_skipped(client: httpx.AsyncClient) -> None:
    await client.post(USERS, json=ADA | {"email": "bob@example.com"})
    assert [user["id"] for user in (await client.get(f"{USERS}?skip=1&limit=5")).json()] == [2]
    assert (await client.get(f"{USERS}?after=1&skip=1")).json() == []


@pytest.mark.parametrize("path", [USERS, f"{USERS}/1", "/api/v2/users", "/api/v2/users/1/profile"])
async def test_a_parameter_that_there_is_not_is_refused(client: httpx.AsyncClient, path: str) -> None:
    refused = await client.get(path, params={"offset": "100"})
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "offset")


async def test_who_misspells_a_parameter_reads_which_there_are(client: httpx.AsyncClient) -> None:
    refused = await client.get(f"{USERS}?limits=1")
    assert refused.json()["errors"][0]["problem"].endswith("there are: after, limit, skip")


async def test_a_parameter_that_is_sent_twice_is_refused(client: httpx.AsyncClient) -> None:
    assert (await client.get(f"{USERS}?limit=1&limit=2")).status_code == 422


@pytest.mark.parametrize("value", ["%ff", "%C3", "a%ED%A0%80", "%F5%80%80%80"])
@pytest.mark.parametrize("query", ["name={}", "{}=1", "limit=1&email={}"])
async def test_a_query_is_utf_8(client: httpx.AsyncClient, query: str, value: str) -> None:
    refused = await client.get("/api/v2/users?" + query.format(value))
    assert (refused.status_code, refused.json()["detail"]) == (422, "the query is not percent-encoded UTF-8")
    assert (await client.get("/api/v2/users?name=%EF%BF%BD")).status_code == 200


@pytest.mark.parametrize("number", ["1_0", " 10", "+1", "1.0", "\uff11\uff10", "-0", "", "0x1", "9" * 5000])
@pytest.mark.parametrize("path", [f"{USERS}?limit=", f"{USERS}?skip=", f"{USERS}?after=", "/api/v2/users?limit="])
async def test_a_number_in_a_query_is_of_digits(client: httpx.AsyncClient, path: str, number: str) -> None:
    assert (await client.get(path + quote(number))).status_code == 422


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
    assert created.headers["etag"] == f'"1-{THEN_DIGITS}"'


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


VALID = json.dumps(ADA)


@pytest.mark.parametrize(
    "body",
    [
        b"{", b"\xff", b'{"name": "Ada', b" ", VALID.encode("utf-8-sig"), VALID.encode("utf-16"), VALID.encode("utf-32"),
        VALID.replace("Ada", "\xff").encode("latin-1"), VALID.replace("Ada", "\\ud800").encode(),
        VALID.replace("Ada", "\\udc00\\ud800").encode(), VALID.replace("Ada", "\0").encode(),
        VALID.replace("36}", '36, "age": 36}').encode(), VALID.replace("36}", '36, "\\u0061ge": 37}').encode(),
        *(VALID.replace("36", number).encode() for number in (
            "NaN", "-Infinity", "1e400", "9" * 5000, "036", "1e-99999999999999999999", '{"a": 1, "a": 1}', "[" * 5000,
        )),
    ],
)  # fmt: skip
@pytest.mark.parametrize(("method", "path"), [("POST", USERS), ("PUT", f"{USERS}/1"), ("PATCH", f"{USERS}/1")])
async def test_what_is_no_json_is_malformed(client: httpx.AsyncClient, method: str, path: str, body: bytes) -> None:
    sent = {"content-type": "application/json", "if-match": "*"}
    refused = await client.request(method, path, content=body, headers=sent)
    assert (refused.status_code, refused.json()["type"]) == (400, "/problems/malformed-json")


async def test_no_body_at_all_lacks_fields(client: httpx.AsyncClient) -> None:
    refused = await client.post(USERS, content=b"", headers={"content-type": "application/json"})
    assert refused.status_code == 422


@pytest.mark.parametrize(
    ("age", "status"),
    [
        ("36.0", 201), ("3.6e1", 201), ("360e-1", 201), ("-0.0", 201), ("36.0000000000000000000001", 422),
        ("1e-300", 422), ("149.99999999999999999999", 422), ("1e308", 422), ("true", 422), ('"36"', 422),
    ],
)  # fmt: skip
async def test_an_age_is_a_whole_number_and_never_rounded(client: httpx.AsyncClient, age: str, status: int) -> None:
    body = VALID.replace("36", age).encode()
    answer = await client.post(USERS, content=body, headers={"content-type": "application/json"})
    assert answer.status_code == status


@pytest.mark.parametrize(
    ("number", "status"), [("1", 200), ("1.0", 200), ('"1"', 422), ("true", 422), ("1.00001", 422)]
)
async def test_an_id_in_a_body_is_a_whole_number(client: httpx.AsyncClient, number: str, status: int) -> None:
    body = VALID.replace("{", f'{{"id": {number}, ').encode()
    sent = {"content-type": "application/json", "if-match": "*"}
    assert (await client.put(f"{USERS}/1", content=body, headers=sent)).status_code == status


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ([], 201),
        (["identity"], 201),
        (["Identity, identity"], 201),
        (["gzip"], 415),
        (["identity", "br"], 415),
        (["x"], 415),
    ],
)
async def test_an_encoded_body_is_unsupported(client: httpx.AsyncClient, lines: list[str], status: int) -> None:
    sent = [("content-type", "application/json"), *(("content-encoding", line) for line in lines)]
    answer = await client.post(USERS, content=VALID, headers=sent)
    assert answer.status_code == status
    assert answer.headers.get("accept-encoding") == ("identity" if status == 415 else None)


@pytest.mark.parametrize("name", ["Idempotency-Key", "Content-Type", "Authorization"])
@pytest.mark.parametrize(("method", "path"), [("POST", USERS), ("GET", f"{USERS}/1"), ("GET", "/api/v2/users")])
@pytest.mark.parametrize("values", [("application/json", "application/json"), ("application/json", "text/plain")])
async def test_a_field_of_one_value_is_sent_once(
    client: httpx.AsyncClient, name: str, method: str, path: str, values: tuple[str, str]
) -> None:
    sent = [(name, value) for value in values]
    refused = await client.request(method, path, content=VALID, headers=sent)
    assert (refused.status_code, refused.json()["type"]) == (400, "/problems/malformed-header")


@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", ""])
async def test_what_is_not_json_is_unsupported(client: httpx.AsyncClient, media_type: str) -> None:
    refused = await client.post(USERS, content=b"{}", headers={"content-type": media_type} if media_type else {})
    assert refused.status_code == 415
    assert refused.headers["accept"] == "application/json"


@pytest.mark.parametrize(
    "wrong",
    [{"age": -1}, {"age": 151}, {"age": "36"}, {"age": True}, {"age": 1.5}, {"name": ""}, {"name": " Ada"},
     {"name": "a\0"}, {"email": "nobody"}, {"email": "a@b"}, {"extra": 1}],
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


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ([TAG], 200), (["*"], 200), (['"3"'], 412), ([f"W/{TAG}"], 412), ([f'W/"a", {TAG}'], 200), (["3"], 400),
        (['"a"', TAG], 200), ([TAG, '"a"'], 200), (['"a",', f" {TAG} ,"], 200), (["", TAG], 200), (['"a"', "*"], 400),
        (['"a"', '"b"'], 412), ([""], 400),
    ],
)  # fmt: skip
async def test_a_change_is_made_to_the_state_that_was_seen(
    client: httpx.AsyncClient, lines: list[str], status: int
) -> None:
    sent = [("If-Match", line) for line in lines]
    assert (await client.put(f"{USERS}/1", json=ADA, headers=sent)).status_code == status


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ({"If-Match": TAG}, 200), ({"If-Match": "*"}, 200), ({"If-Match": '"1"'}, 412), ({"If-Match": f"W/{TAG}"}, 412),
        ({"If-Match": TAG, "If-None-Match": TAG}, 304), ({"If-Match": '"1"', "If-None-Match": TAG}, 412),
        ({"If-Match": "1"}, 412), ({"If-None-Match": "1"}, 200),
    ],
)  # fmt: skip
@pytest.mark.parametrize("path", [f"{USERS}/1", "/api/v2/users/1", "/api/v2/users/1/profile"])
async def test_a_reader_gets_the_state_that_it_asks_for(
    client: httpx.AsyncClient, path: str, sent: dict[str, str], status: int
) -> None:
    assert (await client.get(path, headers=sent)).status_code == status


@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_what_was_read_can_be_put_back(client: httpx.AsyncClient, version: str) -> None:
    path = f"/api/{version}/users/1"
    found = await client.get(path)
    again = await client.put(path, json=found.json(), headers={"If-Match": found.headers["etag"]})
    assert (again.status_code, again.json()) == (200, found.json())


async def test_a_user_does_not_become_another(client: httpx.AsyncClient) -> None:
    refused = await client.put(f"{USERS}/1", json={"id": 2, **ADA}, headers={"If-Match": "*"})
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "id")


async def test_who_creates_a_user_does_not_choose_its_id(client: httpx.AsyncClient) -> None:
    assert (await client.post(USERS, json={"id": 2, **ADA})).status_code == 422


async def test_a_change_of_one_field_leaves_the_others(client: httpx.AsyncClient) -> None:
    changed = await client.patch(f"{USERS}/1", json={"age": 37}, headers={"If-Match": TAG})
    assert changed.json() == {"id": 1, **ADA} | {"age": 37}
    assert changed.headers["etag"] == f'"4-{THEN_DIGITS}"'


async def test_a_field_cannot_be_removed(client: httpx.AsyncClient) -> None:
    assert (await client.patch(f"{USERS}/1", json={"age": None}, headers={"If-Match": "*"})).status_code == 422


async def test_a_deleted_user_is_gone(client: httpx.AsyncClient) -> None:
    assert (await client.delete(f"{USERS}/1", headers={"If-Match": TAG})).status_code == 204
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


@pytest.mark.parametrize(
    "address",
    ["ada@example.com", "o'brien@example.ie", "info@\u043f\u0440\u0438\u043c\u0435\u0440.\u0440\u0444", "Ada+b@x.org", "!#$%&'*+-/=?^_`{|}~@x.org",
     "用户@例子.广告", "jos\u00e9@example.com", "a@host.local", f"{'a' * 64}@x.org",
     "\u00e9" * 32 + "@x.org"],
)  # fmt: skip
def test_an_address_by_the_rfcs_is_taken_as_it_is(address: str) -> None:
    assert TypeAdapter(Email).validate_python(address) == address


@pytest.mark.parametrize(
    "address",
    ["a..b@x.org", ".a@x.org", "a.@x.org", "a@b", "a@@x.org", "a@-x.org", "a@x..org", "a b@x.org", '"a b"@x.org',
     "a@[127.0.0.1]", "Ada <ada@x.org>", f"{'a' * 65}@x.org", "\u00e9" * 32 + "a@x.org", "a@x.org\n", "a\0@x.org", "a@x\u202e.org", "a\ud800@x.org"],
)  # fmt: skip
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Email).validate_python(address)


@given(st.emails().filter(lambda address: 6 <= len(address) <= 254))
def test_every_address_that_the_document_promises_is_taken(address: str) -> None:
    stored = TypeAdapter(Email).validate_python(address)
    assert TypeAdapter(Email).validate_python(stored) == stored
    assert TypeAdapter(Email).validate_python(address.swapcase()).lower() == stored.lower()


@pytest.mark.parametrize(
    "name",
    [
        "Jos\u00e9",
        "\u0646\u0631\u06af\u0633\u200c\u062c\u0627\u0646",
        "\u0915\u094d\u200d\u0937",
        "D'Arcy  O.",
        "\u845b\U000e0100\u57ce",
        "李 明",
    ],
)
def test_a_name_is_of_any_script(name: str) -> None:
    assert TypeAdapter(Name).validate_python(name) == name


@pytest.mark.parametrize(
    "unseen", [*"\u200b\u202e\u2066\ufeff\u00ad\u2028\u3164\U000e0041\ue000\x7f\0", "\u200d\u200d"]
)
def test_a_name_has_nothing_invisible(unseen: str) -> None:
    for name in (f"A{unseen}B", f"A{unseen}", f"{unseen}B", unseen):
        with pytest.raises(ValidationError):
            TypeAdapter(Name).validate_python(name)


@pytest.mark.parametrize("unseen", [*"\u3164\u034f\ufe0f\u180b\u115f\u17b4\u2800\u200b\u202e"])
def test_the_local_part_of_an_address_has_nothing_invisible(unseen: str) -> None:
    assert not passes(TypeAdapter[str](Email), f"a{unseen}b@example.com")


@pytest.mark.parametrize("selector", ["\ufe00", "\ufe0f", "\u180b", "\u180d", "\u180f", "\U000e0100", "\U000e01ef"])
def test_a_selector_follows_what_it_selects_a_form_of(selector: str) -> None:
    adapter = TypeAdapter[str](Name)
    assert passes(adapter, f"A{selector}")
    for name in (selector, selector * 2, f"{selector}A", f"A {selector}", f"A{selector}{selector}"):
        assert not passes(adapter, name)


def test_what_unicode_says_is_no_character_is_in_no_name() -> None:
    none = [*range(0xFDD0, 0xFDF0), *(plane << 16 | end for plane in range(17) for end in (0xFFFE, 0xFFFF))]
    adapter = TypeAdapter[str](Name)
    assert [hex(c) for c in none if any(passes(adapter, name) for name in (chr(c), f"a{chr(c)}", f"a{chr(c)}b"))] == []


@pytest.mark.parametrize(
    "wrong", [{"name": " Ada"}, {"name": "\u200b"}, {"name": "a\n"}, {"name": "a" * 201}, {"email": "x" * 9}]
)
async def test_a_wrong_field_is_explained_in_words(client: httpx.AsyncClient, wrong: dict[str, str]) -> None:
    (error,) = (await client.post(USERS, json=ADA | wrong)).json()["errors"]
    assert len(error["problem"]) < 150
    assert not set(error["problem"]) & set("\\^$[]")


@pytest.mark.parametrize("name", ["A\u200d", "\u200dA", "A \u200dB", "A\u3000", "\u2003A", "\u2003"])
def test_a_joiner_or_space_is_within_a_name(name: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Name).validate_python(name)


def test_no_character_of_an_invisible_category_is_in_a_name() -> None:
    invisible = {"Cc", "Cf", "Co", "Zl", "Zp"}
    adapter = TypeAdapter[str](Name)
    taken = [c for c in map(chr, range(0x110000)) if category(c) in invisible and passes(adapter, f"a{c}b")]
    assert taken == ["\u200c", "\u200d"]


def passes(adapter: TypeAdapter[str], text: str) -> bool:
    try:
        adapter.validate_python(text)
    except ValidationError:
        return False
    return True
