"""What docs/new-service.md promises, in a copy of the project and a stack of its own."""

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from tests.copies import copy_of_project, run_in
from tests.running import eventually
from toolchain.paths import PROJECT
from toolchain.stack import Stack

NAME = "new-service"
ONE = {"requests": {"cpu": "10m"}, "replicas": 1}


def commands() -> list[str]:
    """The commands of make that the page shows first."""
    page = (PROJECT / "docs" / "new-service.md").read_text()
    return page.partition("```sh\n")[2].partition("```")[0].splitlines()


@pytest.fixture
def small(stack: Stack) -> Stack:
    """A stack that takes little room beside the one that is there, and is public as that is."""
    own = stack.settings.ingress.model_copy(update={"host": "api.new-service.myapp.com", "consoles": False})
    service, services = [settings.model_copy(update={}) for settings in (stack.settings.service, stack.settings.service)]
    return replace(stack, name=NAME)
