"""The generation that entries of the cache bear, as Postgres counts it."""

from pathlib import Path

import httpx

from tests.backends import Postgres, Service, free_port


def test_the_first_change_redis_never_heard_of_is_read(service: Service, postgres: Postgres, folder: Path) -> None:
    """A sequence's first value is the one that it shows before: counted wrongly, the first advance goes unseen."""
    postgres.ask("ALTER SEQUENCE cache_generation RESTART")
    writer = Service("writer", folder, postgres.port, free_port())  # where no Redis listens
    writer.start()
    writer.await_ready()
    user = service.client.post("/api/v1/users", json={"name": "A", "email": "first@example.com", "age": 1}).json()
    path = f"/api/v1/users/{user['id']}"
    assert age(service.client, path) == age(service.client, path) == 1  # the second one is Redis'
    changed = writer.client.patch(path, json={"age": 2}, headers={"If-Match": "*"})
    writer.close()
    assert changed.status_code == 200
    assert age(service.client, path) == 2


def age(client: httpx.Client, path: str) -> int:
    return client.get(path).json()["age"]
