"""Disagreements between a proxy of ours and both references: the reviewed list, and those that were observed."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml

from tests.process.differential.lane import Observations
from tests.process.differential.outcome import outcome
from tests.process.differential.targets import REFERENCES

FILE = Path(__file__).with_name("disagreements.yaml")


@dataclass(frozen=True)
class Reviewed:
    """Cases that proxies of ours treat differently from both references, with the reason why that is right.

    Args:
        of: the proxies of ours.
        cases: patterns of the cases' names; every matching case disagrees.
        reason: the reason, with its source.
    """

    of: tuple[str, ...]
    cases: tuple[str, ...]
    reason: str

    def covers(self, name: str) -> bool:
        """Return whether the entry covers a case."""
        return any(fnmatchcase(name, pattern) for pattern in self.cases)


def reviewed(of: str) -> list[Reviewed]:
    """Read the entries of a proxy of ours."""
    entries: list[dict[str, Any]] = yaml.safe_load(FILE.read_text())
    found = [
        Reviewed(tuple(entry["of"]), tuple(p for case in entry["cases"] for p in expanded(case)), entry["reason"])
        for entry in entries
    ]
    return [entry for entry in found if of in entry.of]


def expanded(pattern: str) -> list[str]:
    """Return the patterns that a pattern with alternatives in braces expands to, as in a shell."""
    braces = re.search(r"\{([^{}]*)\}", pattern)
    if braces is None:
        return [pattern]
    alternatives = [pattern[: braces.start()] + word + pattern[braces.end() :] for word in braces[1].split(",")]
    return [found for alternative in alternatives for found in expanded(alternative)]


def disagreements(of: str, seen: Observations) -> dict[str, str]:
    """Return the cases that a proxy of ours treats differently from each of the references, with the outcome on each proxy."""
    found: dict[str, str] = {}
    for name, observation in seen[of].items():
        if not observation.case.compared:
            continue
        own = outcome(observation)
        others = {reference: outcome(seen[reference][name]) for reference in REFERENCES}
        if not any(own.agrees(other) for other in others.values()):
            found[name] = f"{of} {own}; " + "; ".join(f"{reference} {other}" for reference, other in others.items())
    return found


def unlisted(of: str, seen: Observations) -> dict[str, str]:
    """Return the disagreements that are not in the list."""
    entries = reviewed(of)
    found = disagreements(of, seen)
    return {name: what for name, what in found.items() if not any(entry.covers(name) for entry in entries)}


def settled(of: str, seen: Observations) -> dict[str, str]:
    """Return the cases in the list that agree."""
    found = disagreements(of, seen)
    return {
        name: f"agrees, though listed: {entry.reason}"
        for entry in reviewed(of)
        for name in seen[of]
        if entry.covers(name) and name not in found
    }


def unmatched(of: str, names: Iterable[str]) -> list[str]:
    """Return the patterns in the list that match no case."""
    patterns = [pattern for entry in reviewed(of) for pattern in entry.cases]
    return [pattern for pattern in patterns if not any(fnmatchcase(name, pattern) for name in names)]
