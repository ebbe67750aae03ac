"""Tests of the running estate, in any order."""

import pytest

from tests.running import Kubectl, settle


@pytest.fixture(scope="module", autouse=True)
def settled(kubectl: Kubectl) -> None:
    """Begin with an estate that is whole."""
    settle(kubectl)
