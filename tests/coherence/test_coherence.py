"""The cache against its promise, on real processes whose links fail.

A longer run, with other seeds until the time is up: `python -m tests.coherence --minutes 30`.
"""

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.backends import folder
from tests.coherence.machine import World, explore, steps

__all__ = ["folder"]
EXAMPLES, STEPS = 15, 12


@pytest.fixture
def world(folder: Path) -> Iterator[World]:
    world = World(folder)
    yield world
    world.close()


def test_no_read_returns_less_than_what_was_acknowledged(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    number = secrets.randbits(32)
    try:
        explore(world, number, EXAMPLES, STEPS)
    finally:
        with capfd.disabled():
            print(f"\ncoherence: seed {number}, {dict(steps)}")
    assert steps["examples"] >= EXAMPLES
    assert steps["changes acknowledged"] > EXAMPLES
    assert steps["reads answered"] > steps["reads unanswered"]
