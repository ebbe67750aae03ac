"""Faults injected into the running estate, in any order."""

import pytest

from estate.ops.tokens import new_token
from estate.stack.model import Stack
from tests.support.running import Kubectl, settle


@pytest.fixture(autouse=True)
def settled(kubectl: Kubectl) -> None:
    """Start each test with a healthy estate."""
    settle(kubectl)


@pytest.fixture
def token(stack: Stack) -> str:
    """Return a token signed with the current key, which a test here replaces."""
    return new_token(stack)
