"""The log of Postgres, which the log agent ships."""

from typing import Any

import httpx

from tests.backends import Postgres


def test_no_address_is_in_the_log_of_postgres(client: httpx.Client, postgres: Postgres, user: dict[str, Any]) -> None:
    address = user["email"]
    another = client.post("/api/v1/users", json={"name": "Bob", "email": f"bob-{address}", "age": 1}).json()
    path = f"/api/v1/users/{another['id']}"
    again = {"name": "Bob", "email": address.upper(), "age": 1}
    for answer in (
        client.post("/api/v1/users", json=again),
        client.post("/api/v1/users", json=again, headers={"Idempotency-Key": address}),
        client.put(path, json=again, headers={"If-Match": "*"}),
        client.patch(path, json={"email": address}, headers={"If-Match": "*"}),
    ):
        assert (answer.status_code, answer.json()["type"]) == (409, "/problems/email-taken")
    written = postgres.log.read_text()
    assert "duplicate key value" in written, "an error that says which"
    assert address not in written.lower()
