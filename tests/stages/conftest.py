"""The tests in this folder have a stack of stage `staging` of their own, next to `local`, with the images of `local`."""

from collections.abc import Iterator

import httpx
import pytest

from estate.ops.tokens import new_token
from estate.stack.model import Stack, outputs
from tests.support.load import Load
from tests.support.running import Kubectl, connect, kubectl_of
from tests.support.stacks import LIGHT, local_images, next_to_local


@pytest.fixture(scope="session")
def images() -> dict[str, str]:
    """Return the images that the stack starts with."""
    return local_images()


@pytest.fixture(scope="session")
def stack(images: dict[str, str]) -> Iterator[Stack]:
    with next_to_local("test-staging", "staging", images, **LIGHT) as stack:
        yield stack


@pytest.fixture(scope="session")
def urls(stack: Stack) -> dict[str, str]:
    return outputs(stack)["urls"]


@pytest.fixture
def client(stack: Stack, urls: dict[str, str]) -> Iterator[httpx.Client]:
    with connect(urls["gateway"], new_token(stack)) as client:
        yield client


@pytest.fixture
def kubectl(stack: Stack) -> Kubectl:
    return kubectl_of(stack)


@pytest.fixture
def load(client: httpx.Client) -> Iterator[Load]:
    load = Load(client)
    yield load
    load.tidy()
