"""No request, however unusual, causes an internal error."""

import base64
import json
import string
import urllib.parse
import uuid
from typing import Any

import httpx
import jwt
import pytest
from hypothesis import HealthCheck, assume, given, note, settings
from hypothesis import strategies as st
from servicekit.http1 import TARGET_LIMIT_BYTES
from servicekit.tokens import TOKEN_LIMIT_CHARACTERS

from tests.process.users.conftest import TOKEN_KEY

bounded = settings(
    max_examples=400,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
NUMBERS = [0, -1, 2**31, 2**63 - 1, 2**63, 2**64, 10**400, -0.0, 1e308]
TEXTS = ["", "\0", "a\0b", "\ud800", "\udfff\ud800", "\u200b", "\u202e", "%", "\\", "_", "'", "﷽" * 100, "é", "e\u0301", "İ", "10"]  # fmt: skip
DIGITS = ["1_0", " 10", "+1", "10", "-0", "0x1", "1e3", "1.0", "٣", "9" * 5000]
TIMES = [
    "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59.999999-14:00", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999Z",
    "2026-01-01", "1e300", "-1e11", "2026-01-01T00:00:00.000Z", "2016-12-31T23:59:60Z", "2026-01-01T00:00:00+23:59",
]  # fmt: skip
text = st.one_of(st.sampled_from(TEXTS + DIGITS + TIMES), st.text(st.characters(exclude_categories=()), max_size=20))
number = st.one_of(st.sampled_from(NUMBERS), st.integers(), st.floats())
value = st.recursive(
    st.one_of(text, number, st.none(), st.booleans()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(text, inner, max_size=3)),
    max_leaves=5,
)
sorts = st.sampled_from(["id", "-id", "name", "-name", "email", "-email", "created_at", "-created_at"])
fields = st.sampled_from(["id", "name", "email", "age", "created_at", "updated_at"])
valid = {"name": "Ada", "email": "fuzz@example.com", "age": 36}
json_body = st.one_of(st.dictionaries(fields, value, max_size=6).map(lambda some: valid | some), value).map(
    lambda content: json.dumps(content).encode()
)
body = st.one_of(json_body, st.binary(max_size=50), st.just(b"[" * 20000), st.just(b'{"age": ' + b"9" * 5000 + b"}"))


@st.composite
def cursors(draw: st.DrawFn) -> tuple[str, str]:
    """Return an order and a cursor that may belong to it."""
    sort = draw(sorts)
    key, last = draw(st.one_of(text, st.sampled_from(TIMES), value)), draw(st.one_of(st.just(1), value))
    content = json.dumps([draw(st.one_of(st.just(sort), value)), key, last])
    raw = draw(st.one_of(st.just(content.encode()), st.just(content.encode("unicode_escape")), st.binary(max_size=40)))
    return sort, base64.urlsafe_b64encode(raw).decode().rstrip("=")


def percent(part: Any) -> str:
    """Return text percent-encoded for a query or path, including surrogates."""
    return urllib.parse.quote(str(part).encode("utf-8", "surrogatepass"), safe="")


@st.composite
def queries(draw: st.DrawFn) -> str:
    """Return parameters, known and unknown, some more than once."""
    names = st.sampled_from(["limit", "after", "skip", "cursor", "email", "name", "sort", "other"])
    pairs = draw(st.lists(st.tuples(names, st.one_of(text, number)), max_size=3))
    if draw(st.booleans()):
        sort, cursor = draw(cursors())
        pairs = [("sort", sort), ("cursor", cursor), *pairs]
    return "&".join(f"{name}={percent(given)}" for name, given in pairs)


visible = st.text(string.printable[:95] + "\t\xe9\xff", max_size=30).map(lambda line: line.strip().encode("latin-1"))
tags = st.one_of(visible, st.sampled_from([b"*", b'"1"', b'W/"1"', b'"1", "2"', b",", b'"' + b"9" * 400 + b'"']))
headers = st.dictionaries(
    st.sampled_from(["If-Match", "If-None-Match", "Idempotency-Key", "Content-Type", "Accept", "Host"]),
    tags,
)


@bounded
@given(
    method=st.sampled_from(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]),
    base=st.sampled_from(["/api/v1/users", "/api/v2/users", "/users"]),
    rest=st.one_of(st.just(""), st.just("/1"), text.map(lambda t: "/" + percent(t)), st.just("/1/profile")),
    query=queries(),
    sent=headers,
    content=body,
)
def test_no_request_is_answered_with_an_error_of_ours(
    client: httpx.Client, method: str, base: str, rest: str, query: str, sent: dict[str, bytes], content: bytes
) -> None:
    usual = {"Content-Type": b"application/json", "If-Match": b"*"}
    answer = client.request(
        method,
        f"{base}{rest}?{query}",
        headers=[(name.encode(), given) for name, given in (usual | sent).items()],
        content=content,
    )
    note(answer.text)
    assert answer.status_code < 500


@bounded
@given(st.lists(st.one_of(cursors(), st.tuples(sorts, text)), min_size=1, max_size=5))
def test_a_cursor_is_one_of_ours_or_refused(client: httpx.Client, tried: list[tuple[str, str]]) -> None:
    for sort, cursor in tried:
        target = f"/api/v2/users?sort={sort}&cursor={percent(cursor)}"
        answer = client.get(target)
        expected = (414,) if len(target) > TARGET_LIMIT_BYTES else (200, 400, 422) if cursor else (400,)
        assert answer.status_code in expected, answer.text


@pytest.mark.parametrize("time", TIMES[:2])
def test_a_cursor_of_no_time_in_utc_is_malformed(client: httpx.Client, time: str) -> None:
    cursor = base64.urlsafe_b64encode(json.dumps(["created_at", time, 1]).encode()).decode().rstrip("=")
    refused = client.get("/api/v2/users", params={"sort": "created_at", "cursor": cursor})
    assert (refused.status_code, refused.json()["type"]) == (400, "/problems/malformed-cursor")


@bounded
@given(subject=st.one_of(text, text.map(lambda t: t * 40)))
def test_whoever_a_token_names_may_create(client: httpx.Client, subject: str) -> None:
    key = uuid.uuid4().hex
    claims = {"sub": subject, "iss": "estate", "aud": "estate", "iat": 1, "exp": 2**40}
    token = jwt.encode(claims, TOKEN_KEY, headers={"kid": "one"})
    assume(len(token) <= TOKEN_LIMIT_CHARACTERS)
    sent = {"Authorization": f"Bearer {token}", "Idempotency-Key": key}
    answers = [client.post("/api/v1/users", json=valid | {"email": f"{key}@example.com"}, headers=sent) for _ in "12"]
    assert [answer.status_code for answer in answers] == [201, 201]
    assert answers[0].json() == answers[1].json()
