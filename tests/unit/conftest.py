"""Fixtures and hooks for every unit test."""

import threading
import time
from collections.abc import Iterator

import pytest

THREADS_END_S = 10.0
IDLE = ("asyncio_", "ThreadPoolExecutor")


@pytest.fixture(autouse=True)
def no_thread_goes_on() -> Iterator[None]:
    """Fail a test that leaves a thread running: it would write into another test's log, and draw from its random numbers.

    Threads of an executor do nothing once their work is done.
    """
    before = set(threading.enumerate())
    yield
    until = time.monotonic() + THREADS_END_S
    own = [one for one in threading.enumerate() if one not in before and not one.name.startswith(IDLE)]
    for one in own:
        one.join(max(0, until - time.monotonic()))
    assert [one.name for one in own if one.is_alive()] == []
