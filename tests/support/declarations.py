"""Services that only a test declares."""

import pytest

from infra.services import Service
from infra.settings import secrets, stack


def declare(patch: pytest.MonkeyPatch, *services: Service) -> None:
    """Let the settings know these services, in the place of the project's.

    Args:
        patch: patch that ends with the test.
        services: the services.
    """
    for module in (secrets, stack):
        patch.setattr(module, "SERVICES", services)
