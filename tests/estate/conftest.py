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


@pytest.fixture
def resources() -> list[Registered]:
    """Of stack `local`."""
    return run_program("local")


@pytest.fixture(params=["local", "dev", "staging", "prod", "managed"])
def estate(request: pytest.FixtureRequest) -> list[Registered]:
    """Of each stack, and of one with a managed database: what holds everywhere."""
    return managed() if request.param == "managed" else run_program(request.param)
