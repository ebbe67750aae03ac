"""user-service as a process, on a real Postgres and a real Redis."""

import base64
import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from infra.postgres import LOGGING
from tests.support import backends
from tests.support.backends import Postgres, Server, Service, folder

__all__ = ["folder"]
TOKEN_KEY = b"a key of tests, which signs tokens of any subject"


@pytest.fixture(scope="session")
def postgres(folder: Path) -> Iterator[Postgres]:
    server = Postgres(folder, LOGGING)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def redis(folder: Path) -> Iterator[Server]:
    server = backends.redis(folder)
    server.start()
    server.await_ready()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def service(folder: Path, postgres: Postgres, redis: Server) -> Iterator[Service]:
    keys = folder / "keys.json"
    secret = base64.urlsafe_b64encode(TOKEN_KEY).decode().rstrip("=")
    keys.write_text(json.dumps({"keys": [{"kty": "oct", "kid": "one", "alg": "HS256", "k": secret}]}))
    service = Service("service", folder, postgres.port, redis.port, {"APP_AUTH_KEYS_FILE": str(keys)})
    service.migrate()
    service.start()
    service.await_ready()
    yield service
    service.close()


@pytest.fixture
def client(service: Service) -> httpx.Client:
    return service.client


@pytest.fixture
def user(client: httpx.Client) -> dict[str, Any]:
    new = {"name": "Ada", "email": f"{uuid.uuid4().hex}@example.com", "age": 36}
    return client.post("/api/v1/users", json=new).json()
