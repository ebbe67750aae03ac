"""Fixtures for tests that run the tools of the cluster."""

from collections.abc import Iterator

import pytest

from tests.tools.manifests.controller import Controller, started


@pytest.fixture(scope="package")
def controller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Controller]:
    """Yield a running Ingress controller."""
    with started(tmp_path_factory.mktemp("controller")) as running:
        yield running
