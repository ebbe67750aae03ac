"""Fixtures for tests of every resource that the program registers."""

import asyncio
from collections.abc import Iterator
from functools import cache
from typing import Any
from unittest.mock import patch

import pytest

from estate.pulumi import program
from estate.pulumi.program import Registered, run_program, run_with, settings_of
from infra.authority import authority, pem
from tests.support.schemas import refused_of

MANAGED: dict[str, Any] = {
    "host": "myapp.database.example.com",
    "port": 6432,
    "networks": ["198.51.100.0/24"],
    "ca": pem(authority("somebody else's")),
    "admin": "myadmin",
}
"""Settings of an externally managed database."""


@pytest.fixture(autouse=True)
def loop() -> None:
    """Set Pulumi's event loop, whatever the test before has left behind."""
    asyncio.set_event_loop(program.LOOP)


@pytest.fixture(scope="package", autouse=True)
def known_to_kubernetes() -> Iterator[None]:
    """Validate everything that the tests here make the program register, with settings of their own too, against Kubernetes' schemas."""
    run = program.against_mocks

    def run_checked(*words: Any) -> list[Registered]:
        registered = run(*words)
        assert refused_of(registered) == {}
        return registered

    with patch.object(program, "against_mocks", run_checked):
        yield


@cache
def managed() -> list[Registered]:
    """Return the resources of stack `prod` with a managed database."""
    return run_with("prod", settings_of("prod") | {"postgres": {"kind": "managed", "managed": MANAGED}})


@cache
def with_grafana() -> list[Registered]:
    """Return the resources of stack `local` with an image for Grafana."""
    return run_with("local", settings_of("local") | {"images": {"grafana": "docker.io/grafana/grafana:12.2.1"}})


@pytest.fixture
def resources() -> list[Registered]:
    """Return the resources of stack `local`."""
    return run_program("local")


@pytest.fixture(params=["local", "dev", "staging", "prod", "managed", "grafana"])
def estate(request: pytest.FixtureRequest) -> list[Registered]:
    """Return the resources of each stack, of one with a managed database and of one with Grafana, for what holds everywhere."""
    others = {"managed": managed, "grafana": with_grafana}
    return others[request.param]() if request.param in others else run_program(request.param)
