"""Fixtures of what is tested as the tools that the cluster runs."""

from collections.abc import Iterator

import pytest

from tests.score.controller import Controller, started


@pytest.fixture(scope="package")
def controller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Controller]:
    """Start the Ingress controller."""
    with started(tmp_path_factory.mktemp("controller")) as running:
        yield running
