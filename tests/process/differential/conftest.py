"""The lane's fixtures: the proxies, and the observation of every case on each."""

from collections.abc import Iterator

import pytest

from tests.process.differential.corpus import corpus
from tests.process.differential.lane import Lane, Observations, lane
from tests.process.differential.targets import OURS, REFERENCES

COUNTS: list[str] = []
"""Lines of the lane's summary."""


@pytest.fixture(scope="session")
def proxies() -> Iterator[Lane]:
    with lane() as running:
        yield running


@pytest.fixture(scope="session")
def seen(proxies: Lane) -> Observations:
    cases = corpus()
    COUNTS.append(f"{len(cases)} cases on {len(OURS + REFERENCES)} proxies")
    return proxies.observe(cases, OURS + REFERENCES)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the number of cases that were tried."""
    for line in COUNTS:
        terminalreporter.write_line(f"differential: {line}")
