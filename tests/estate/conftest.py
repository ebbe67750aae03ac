"""Tests look at every resource that the program registers."""

from functools import cache
from typing import Any

import pytest

from infra.authority import authority, pem
from toolchain.program import Registered, run_program, run_with, settings_of

MANAGED: dict[str, Any] = {
    "host": "myapp.database.example.com",
    "port": 6432,
    "networks": ["198.51.100.0/24"],
    "ca": pem(authority("somebody else's")),
    "admin": "myadmin",
}
"""A database that somebody else runs."""


@cache
def managed() -> list[Registered]:
    """Of stack `prod` with such a database."""
    return run_with("prod", settings_of("prod") | {"postgres": {"kind": "managed", "managed": MANAGED}})


@cache
def with_grafana() -> list[Registered]:
    """Of stack `local` where the image can be had."""
    return run_with("local", settings_of("local") | {"images": {"grafana": "docker.io/grafana/grafana:12.2.1"}})


@pytest.fixture
def resources() -> list[Registered]:
    """Of stack `local`."""
    return run_program("local")


@pytest.fixture(params=["local", "dev", "staging", "prod", "managed", "grafana"])
def estate(request: pytest.FixtureRequest) -> list[Registered]:
    """Of each stack, of one with a managed database and of one with Grafana: what holds everywhere."""
    beside = {"managed": managed, "grafana": with_grafana}
    return beside[request.param]() if request.param in beside else run_program(request.param)
