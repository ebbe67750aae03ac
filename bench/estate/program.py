"""Duration and memory of a program alone, against mocks, each time in a fresh process: the estate's, or that of any number of services."""

import os
import statistics
import sys

from bench.estate.commands import Run, timed
from estate.core.console import say
from estate.core.paths import PROJECT
from estate.stack.target import KEEP_BYTECODE

ROUNDS = 5


def mocked(services: int | None = None) -> Run:
    """Run the program of stack `local`, or of the given number of services."""
    words = [] if services is None else [str(services)]
    return timed([sys.executable, "-m", "bench.estate.mocked", *words], os.environ | KEEP_BYTECODE, PROJECT)


def measure() -> str:
    """Measure the estate's program, and return a Markdown table."""
    say("  the program alone")
    runs = [mocked() for _ in range(ROUNDS)]
    median_s = statistics.median(run.took_s for run in runs)
    peak_mb = max(peak for run in runs for peak in run.peaks_mb.values())
    lines = ["| program of stack local, against mocks | median | slowest | most memory resident |", "|---|---|---|---|"]
    slowest_s = max(run.took_s for run in runs)
    return "\n".join([*lines, f"| a fresh process | {median_s:.1f} s | {slowest_s:.1f} s | {peak_mb:.0f} MB |"])
