"""user-service as a process, on a real Postgres and a real Redis."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests import backends
from tests.backends import Postgres, Server, Service, folder

__all__ = ["folder"]


@pytest.fixture(scope="session")
def postgres(folder: Path) -> Iterator[Postgres]:
    server = Postgres(folder)
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
    service = Service("service", folder, postgres.port, redis.port)
    service.migrate()
    service.start()
    service.await_ready()
    yield service
    service.close()


@pytest.fixture
def client(service: Service) -> httpx.Client:
    return service.client
