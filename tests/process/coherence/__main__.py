"""Explore the cache's consistency for a given time: `python -m tests.process.coherence --minutes 30 [--seed 1]`."""

import argparse
import secrets
import tempfile
import time
from pathlib import Path

from tests.process.coherence.machine import World, explore, steps

EXAMPLES, STEPS = 10, 40


def main() -> None:
    """Explore with one seed after another, each printed, until the time is up or the consistency is violated."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=secrets.randbits(32))
    given = parser.parse_args()
    end, number = time.monotonic() + given.minutes * 60, given.seed
    with tempfile.TemporaryDirectory(prefix="coherence-") as name:
        world = World(Path(name))
        try:
            while time.monotonic() < end:
                print(f"seed {number}", flush=True)
                explore(world, number, EXAMPLES, STEPS)
                print(dict(steps), flush=True)
                number += 1
        finally:
            world.close()


if __name__ == "__main__":
    main()
