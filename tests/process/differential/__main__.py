"""Search mutations for longer than the lane does: `python -m tests.process.differential --minutes 30 --seed 1`."""

import argparse
import random
import sys
import time

from tests.process.differential.lane import lane
from tests.process.differential.mutations import Failure, search
from tests.process.differential.targets import OURS

ROUND = 200
"""Mutations between two checks of the clock."""


def main() -> None:
    """Search until the time is over; report every kind of failure once, shrunk."""
    parser = argparse.ArgumentParser(prog="python -m tests.process.differential", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    end = time.monotonic() + options.minutes * 60
    failures: list[Failure] = []
    sent = rounds = 0
    with lane(OURS) as running:
        while time.monotonic() < end:
            known = frozenset(failure.kind for failure in failures)
            number, failure = search(running, options.seed + rounds, ROUND, known)
            sent += number
            rounds += 1
            if failure:
                failures.append(failure)
                print(f"\nround {rounds}, {failure}", flush=True)
    print(f"\n{sent} mutations in {rounds} rounds from seed {options.seed}, {len(failures)} kinds of failures")
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
