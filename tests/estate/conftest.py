"""Tests look at every resource that the program registers."""

import pytest

from toolchain.program import Registered, run_program


@pytest.fixture
def resources() -> list[Registered]:
    """Of stack `local`."""
    return run_program("local")


@pytest.fixture(params=["local", "dev", "staging", "prod"])
def estate(request: pytest.FixtureRequest) -> list[Registered]:
    """Of each stack: what holds everywhere."""
    return run_program(request.param)
