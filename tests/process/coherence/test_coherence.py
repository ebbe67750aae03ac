"""The cache's consistency, on real processes whose links fail.

A longer run, with other seeds until the time is up: `python -m tests.process.coherence --minutes 30`.
"""

import secrets
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.process.coherence.machine import World, explore, steps
from tests.support.backends import folder

__all__ = ["folder"]
ROUNDS, EXAMPLES, STEPS = 3, 5, 10
BUDGET_S = 60.0
"""Seconds after which no further round begins: a slow machine does fewer."""


@pytest.fixture
def world(folder: Path) -> Iterator[World]:
    world = World(folder)
    yield world
    world.close()


@pytest.mark.timeout(900)
def test_no_read_returns_less_than_what_was_acknowledged(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    number, end = secrets.randbits(32), time.monotonic() + BUDGET_S
    try:
        for seed in range(number, number + ROUNDS):
            if time.monotonic() < end:
                explore(world, seed, EXAMPLES, STEPS)
    finally:
        with capfd.disabled():
            print(f"\ncoherence: seed {number}, {dict(steps)}")
    assert steps["examples"] >= EXAMPLES
    assert steps["changes acknowledged"] > 0
    assert steps["reads answered"] > steps["reads unanswered"]
