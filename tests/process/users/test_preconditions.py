"""Preconditions of changes, as Postgres evaluates them."""

from typing import Any

import httpx
import pytest

METHODS = ["PUT", "PATCH", "DELETE"]


def body_of(method: str, email: str = "a@b.com") -> dict[str, Any] | None:
    return None if method == "DELETE" else {"name": "Ada", "email": email, "age": 1}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize(
    ("sent", "refusal"),
    [
        ({"If-None-Match": "*"}, 412), ({"If-None-Match": "{tag}"}, 412), ({"If-None-Match": "W/{tag}"}, 412),
        ({"If-Match": "{tag}", "If-None-Match": '"1", {tag}'}, 412), ({"If-Match": '"1"'}, 412),
        ({"If-Match": "W/{tag}"}, 412), ({"If-None-Match": "1"}, 400), ({"If-None-Match": '"1"'}, None),
        ({"If-Match": "{tag}", "If-None-Match": '"1"'}, None), ({"If-Match": '"1", {tag}'}, None),
    ],
)  # fmt: skip
def test_a_change_is_made_where_every_precondition_holds(
    client: httpx.Client, user: dict[str, Any], method: str, version: str, sent: dict[str, str], refusal: int | None
) -> None:
    path = f"/api/{version}/users/{user['id']}"
    tag = client.get(path).headers["etag"]
    headers = {name: value.replace("{tag}", tag) for name, value in ({"If-Match": "*"} | sent).items()}
    answer = client.request(method, path, headers=headers, json=body_of(method, user["email"]))
    assert answer.status_code == (refusal or (204 if method == "DELETE" else 200))
    assert (client.get(path).headers.get("etag") == tag) == bool(refusal)


@pytest.mark.parametrize("method", METHODS)
def test_a_precondition_of_no_user_is_not_found(client: httpx.Client, method: str) -> None:
    headers = {"If-Match": "*", "If-None-Match": "*"}
    assert (
        client.request(method, "/api/v1/users/9007199254740993", headers=headers, json=body_of(method)).status_code
        == 404
    )
