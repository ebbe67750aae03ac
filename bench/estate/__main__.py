"""python -m bench.estate STACK: measure, and print tables for docs/benchmarks.md. The stack has to be up, from this clone.

The compared commands run in turn, so that a noisy minute affects all equally. Figures are medians; a ratio is the median of the rounds' ratios.
"""

import sys

from bench.estate import growth, previews, program, rollout
from estate.core.console import EstateError, run_command, say
from estate.ops.update import opened


def main() -> None:
    """Measure, and print each table as soon as it is complete.

    Raises:
        EstateError: there is no such stack, or it is not up.
    """
    if len(sys.argv) != 2:
        raise EstateError("usage: python -m bench.estate STACK")
    say(f"\n{program.measure()}\n")
    with opened(sys.argv[1]) as stack:
        say(f"\n{previews.measure(stack)}\n")
        say(f"\n{growth.measure(stack.target)}\n")
        say(f"\n{rollout.measure(stack)}\n")


if __name__ == "__main__":
    run_command(main)
