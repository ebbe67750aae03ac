"""Comparison of our HTTP proxies with nginx and haproxy as references, on the same bytes."""

import random
from collections.abc import Callable

import pytest

from tests.process.differential import conftest
from tests.process.differential.disagreements import settled, unlisted, unmatched
from tests.process.differential.exceptions import EXCEPTED, Excepted, excepted
from tests.process.differential.invariants import INVARIANTS, Invariant
from tests.process.differential.lane import Lane, Observations
from tests.process.differential.mutations import search
from tests.process.differential.targets import OURS, REFERENCES

pytestmark = pytest.mark.timeout(900)
SHOWN = 40
EXAMPLES = 300
ours = pytest.mark.parametrize("proxy", OURS)


def listed(lines: list[str]) -> str:
    """Return failures in a readable form: their number, and the first ones."""
    return f"{len(lines)}:\n" + "\n".join(lines[:SHOWN])


@ours
@pytest.mark.parametrize("invariant", INVARIANTS, ids=lambda invariant: invariant.__name__)
def test_every_case_keeps_the_invariant(seen: Observations, proxy: str, invariant: Invariant) -> None:
    held = [case for case in seen[proxy].values() if not excepted(proxy, case.reading.messages)]
    broken = [f"{case.case.name}: {wrong}" for case in held for wrong in invariant(case)]
    assert not broken, listed(broken)


@pytest.mark.parametrize("entry", EXCEPTED, ids=lambda entry: entry.applies.__name__)
def test_exceptions_are_still_needed(seen: Observations, entry: Excepted) -> None:
    cases = [case for case in seen[entry.of].values() if any(map(entry.applies, case.reading.messages))]
    assert any(wrong for case in cases for invariant in INVARIANTS for wrong in invariant(case))


def confirmed(
    lane: Lane, seen: Observations, proxy: str, find: Callable[[str, Observations], dict[str, str]]
) -> list[str]:
    """Return the failures that recur when the cases are sent once and twice more: the outcome of a race is no disagreement."""
    found = find(proxy, seen)
    for _ in range(2):
        again = [case.case for name, case in seen[proxy].items() if name in found]
        found = find(proxy, lane.observe(again, (proxy, *REFERENCES)))
    return [f"{name}: {what}" for name, what in found.items()]


@ours
def test_disagreements_with_both_references_are_reviewed(proxies: Lane, seen: Observations, proxy: str) -> None:
    found = confirmed(proxies, seen, proxy, unlisted)
    assert not found, listed(found)


@ours
def test_reviewed_disagreements_still_disagree(proxies: Lane, seen: Observations, proxy: str) -> None:
    found = confirmed(proxies, seen, proxy, settled) + unmatched(proxy, seen[proxy])
    assert not found, listed(found)


@pytest.mark.parametrize("proxy", OURS + REFERENCES)
def test_other_clients_share_the_connections_of_the_cases(seen: Observations, proxy: str) -> None:
    forwarded = [case for case in seen[proxy].values() if case.received]
    assert sum(case.shared for case in forwarded) > len(forwarded) / 3


def test_mutations_keep_the_invariants(proxies: Lane) -> None:
    seed = random.randrange(2**32)  # noqa: S311 - pytest-randomly sets it, and prints the seed
    sent, failure = search(proxies, seed, EXAMPLES)
    conftest.COUNTS.append(f"{sent} mutations from seed {seed}")
    assert failure is None, f"seed {seed}: {failure}"
