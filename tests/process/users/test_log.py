"""The log of Postgres, which the log agent ships."""

import signal
from pathlib import Path
from typing import Any

import httpx
import pytest

from infra.postgres_cluster import cluster
from tests.support.backends import Postgres


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


def test_no_value_of_a_row_is_in_the_log_that_the_operator_reads(folder: Path) -> None:
    """Look for values in the CSV log, which CloudNativePG reads, and in which an error has its DETAIL whatever the verbosity."""
    own = folder / "csv"
    own.mkdir()
    parameters = cluster("image", "1Gi", "owner", "superuser", "server")["postgresql"]["parameters"]
    server = Postgres(own, {"log_destination": "csvlog", "logging_collector": "on", **parameters})
    try:
        server.ask("CREATE TABLE addresses (address text UNIQUE)")
        insert = "INSERT INTO addresses VALUES ('ada@example.com')"
        server.ask(insert)
        with pytest.raises(AssertionError, match="duplicate key value"):
            server.ask(insert)
    finally:
        server.stop(signal.SIGTERM)
    written = "".join(file.read_text() for file in (own / "postgres" / "log").iterdir())
    assert "database system is ready" in written
    assert "ada@example.com" not in written
