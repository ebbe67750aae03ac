"""Losses of the running estate, in any order."""

import pytest

from tests.running import Kubectl, settle
from toolchain.estate import new_token
from toolchain.stack import Stack


@pytest.fixture(autouse=True)
def settled(kubectl: Kubectl) -> None:
    """Begin with an estate that is whole."""
    settle(kubectl)


@pytest.fixture
def token(stack: Stack) -> str:
    """A token by the key of the moment, which a test here replaces."""
    return new_token(stack)
