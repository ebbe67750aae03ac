"""The generation of cache entries, as Postgres counts it."""

from pathlib import Path

import httpx

from tests.support.backends import Postgres, Service, free_port


def test_the_first_change_redis_never_heard_of_is_read(service: Service, postgres: Postgres, folder: Path) -> None:
    """Advance a sequence for the first time: its first value is the one that it shows before, so that a wrong count misses the advance."""
    postgres.ask("ALTER SEQUENCE cache_generation RESTART")
    writer = Service("writer", folder, postgres.port, free_port())  # where no Redis listens
    writer.start()
    writer.await_ready()
    user = service.client.post("/api/v1/users", json={"name": "A", "email": "first@example.com", "age": 1}).json()
    path = f"/api/v1/users/{user['id']}"
    assert age(service.client, path) == age(service.client, path) == 1  # Redis answers the second one
    changed = writer.client.patch(path, json={"age": 2}, headers={"If-Match": "*"})
    writer.close()
    assert changed.status_code == 200
    assert age(service.client, path) == 2


def age(client: httpx.Client, path: str) -> int:
    return client.get(path).json()["age"]
