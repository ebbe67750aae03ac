"""Where a proxy of ours and both references make different things of a case: the reviewed list, and what is really so."""

from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml

from tests.differential.lane import Observations
from tests.differential.outcome import outcome
from tests.differential.targets import REFERENCES

FILE = Path(__file__).with_name("disagreements.yaml")


@dataclass(frozen=True)
class Reviewed:
    """Cases that proxies of ours treat otherwise than both references, and why that is right.

    Args:
        of: the proxies of ours.
        cases: patterns of their names; every case that one matches disagrees.
        reason: why, with its source.
    """

    of: tuple[str, ...]
    cases: tuple[str, ...]
    reason: str

    def covers(self, name: str) -> bool:
        """Whether a case is one of them."""
        return any(fnmatchcase(name, pattern) for pattern in self.cases)


def reviewed(of: str) -> list[Reviewed]:
    """Read those of a proxy of ours."""
    entries: list[dict[str, Any]] = yaml.safe_load(FILE.read_text())
    found = [Reviewed(tuple(entry["of"]), tuple(entry["cases"]), entry["reason"]) for entry in entries]
    return [entry for entry in found if of in entry.of]


def disagreements(of: str, seen: Observations) -> dict[str, str]:
    """The cases that a proxy of ours treats otherwise than each of the references, with what each makes of it."""
    found: dict[str, str] = {}
    for name, observation in seen[of].items():
        own = outcome(observation)
        others = {reference: outcome(seen[reference][name]) for reference in REFERENCES}
        if not any(own.agrees(other) for other in others.values()):
            found[name] = f"{of} {own}; " + "; ".join(f"{reference} {other}" for reference, other in others.items())
    return found


def unlisted(of: str, seen: Observations) -> list[str]:
    """Disagreements that nobody reviewed."""
    entries = reviewed(of)
    return [
        f"{name}: {what}"
        for name, what in disagreements(of, seen).items()
        if not any(entry.covers(name) for entry in entries)
    ]


def settled(of: str, seen: Observations) -> list[str]:
    """What the list says and what is not so, or not any more: patterns without a case, and cases that agree."""
    found = disagreements(of, seen)
    wrong: list[str] = []
    for entry in reviewed(of):
        for pattern in entry.cases:
            cases = [name for name in seen[of] if fnmatchcase(name, pattern)]
            agreeing = [name for name in cases if name not in found]
            if not cases or agreeing:
                wrong.append(f"{pattern}: {'agrees: ' + ', '.join(agreeing) if cases else 'there is no such case'}")
    return wrong
