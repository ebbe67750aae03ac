"""Equality of e-mail addresses, as decided by a real Postgres."""

import uuid
from pathlib import Path
from typing import Any

import httpx
import pytest
from user_service.v2 import Sort, select

from tests.support.backends import OWNER, Postgres, Server, Service

USERS = "/api/v2/users"
FORMS = {
    "case": ("ada{}@example.com", "ADA{}@Example.COM"),
    "full width": ("ada{}@ex.com", "ada{}@\uff25\uff38.com"),
    "full stop": ("ada{}@ex.com", "ada{}@ex\u3002com"),
    "punycode": ("ada{}@пример.рф", "ada{}@xn--e1afmkfd.xn--p1ai"),
    "case of a domain": ("ada{}@пример.рф", "ada{}@ПРИМЕР.рф"),
    "kelvin": ("k{}@example.com", "\u212a{}@example.com"),
    "composed": ("andr\u00e9{}@example.com", "andre\u0301{}@example.com"),
}
LETTERS = {
    "dotted I": ("i", "\u0130"), "dotless i": ("I", "\u0131"), "long s": ("s", "\u017f"),
    "accent": ("\u00e9", "\u00c9"), "full width": ("a", "\uff41"),
}  # fmt: skip

EARLIER = """
    DROP INDEX users_email_folded, users_email_folded_order;
    CREATE UNIQUE INDEX users_email_lower ON users (lower(email));
    UPDATE alembic_version_user_service SET version_num = '0003';
    INSERT INTO users (name, email, age) VALUES ('A', 'ada@x.org', 1), ('B', 'i@x.org', 1), ('C', '\u00c9@\uff25\uff38.com', 1);
"""
"""Script that downgrades a schema to that of the previous release, with users."""
INDEXES = """
    SELECT indexrelid::regclass FROM pg_index
    WHERE indrelid = 'users'::regclass AND indisvalid AND indexrelid::regclass::text ~ '^users_email_(folded|lower|order)' ORDER BY indexrelid::regclass::text
"""


def create(client: httpx.Client, email: str) -> httpx.Response:
    return client.post(USERS, json={"name": "Ada", "email": email, "age": 36})


def found(client: httpx.Client, email: str) -> list[str]:
    return [user["email"] for user in client.get(USERS, params={"email": email}).json()["items"]]


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("turn", [1, -1])
def test_an_address_in_two_forms_is_one_user(client: httpx.Client, name: str, turn: int) -> None:
    number = uuid.uuid4().int % 10**9
    one, other = (form.format(number) for form in FORMS[name][::turn])
    first = create(client, one)
    assert first.status_code == 201
    assert create(client, other).status_code == 409
    assert found(client, one) == found(client, other) == [first.json()["email"]]


@pytest.mark.parametrize("name", LETTERS)
@pytest.mark.parametrize("turn", [1, -1])
def test_addresses_of_other_letters_are_two_users(client: httpx.Client, name: str, turn: int) -> None:
    domain = f"{uuid.uuid4().hex}.com"
    for letter in LETTERS[name][::turn]:
        assert create(client, f"{letter}@{domain}").status_code == 201
    for letter in LETTERS[name]:
        assert found(client, f"{letter}@{domain}") == [f"{letter}@{domain}"]


def test_what_an_earlier_release_stored_is_found_by_it(
    client: httpx.Client, postgres: Postgres, user: dict[str, Any]
) -> None:
    stored = user["email"].replace("example", "\uff25\uff38")
    postgres.ask(f"UPDATE users SET email = '{stored}' WHERE id = {user['id']}")
    assert found(client, stored) == [stored]


@pytest.mark.parametrize("left", ["", "CREATE INDEX users_email_folded ON users (id)"], ids=["at once", "after a try"])
def test_a_database_of_the_release_before_is_brought_up_to_date(
    folder: Path, postgres: Postgres, redis: Server, left: str
) -> None:
    database = f"earlier_{uuid.uuid4().hex}"
    postgres.ask(f"CREATE DATABASE {database} OWNER {OWNER}", "postgres", "postgres")
    service = Service("earlier", folder, postgres.port, redis.port, {"APP_DATABASE_NAME": database})
    service.migrate()
    postgres.ask(EARLIER + left, database=database)
    service.migrate()
    assert postgres.ask("SELECT version_num FROM alembic_version_user_service", database=database) == "0004"
    assert postgres.ask(INDEXES, database=database) == "users_email_folded\nusers_email_folded_order\nusers_email_order"
    # As the previous release writes it.
    written = "INSERT INTO users (name, email, age) VALUES ('A', '{}', 1) ON CONFLICT DO NOTHING RETURNING true"
    assert postgres.ask(written.format("ADA@x.org"), database=database) == ""
    assert postgres.ask(written.format("\u0130@x.org"), database=database) == "t"
    service.close()


@pytest.mark.parametrize("sort", [Sort.EMAIL, Sort.EMAIL_DOWN])
@pytest.mark.parametrize(("after", "email"), [(None, None), (("a@b.com", 1), None), (None, "a@\uff42.com")])
def test_a_list_by_address_reads_an_index(
    service: object,  # noqa: ARG001 - has made the schema
    postgres: Postgres,
    sort: Sort,
    after: tuple[str, int] | None,
    email: str | None,
) -> None:
    query, values = select(sort, after, email, None, 11)
    assert "users_email_folded" in plan(postgres, query, values)


def test_the_release_before_finds_addresses_by_an_index(service: object, postgres: Postgres) -> None:  # noqa: ARG001
    query = "SELECT id FROM users WHERE lower(email) = lower($1)"
    assert "users_email_order" in plan(postgres, query, ["a@b.com"])


def plan(postgres: Postgres, query: str, values: list[Any]) -> str:
    """Return the plan of a query with sequential scans discouraged: a few rows are read faster without an index."""
    given = ", ".join(str(value) if isinstance(value, int) else f"'{value}'" for value in values)
    asked = ["SET enable_seqscan = off", "SET enable_sort = off", "SET plan_cache_mode = force_generic_plan"]
    return postgres.ask("; ".join([*asked, f"PREPARE asked AS {query}", f"EXPLAIN EXECUTE asked({given})"]))
