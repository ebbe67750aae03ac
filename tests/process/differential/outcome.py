"""The outcome of a case on a proxy, in a form that allows comparison."""

from dataclasses import dataclass

from tests.process.differential.case import When
from tests.process.differential.exchange import Observation, shown
from tests.process.differential.reading import End

Forwarded = tuple[bytes, bytes, bytes, tuple[bytes, ...]]


@dataclass(frozen=True)
class Outcome:
    """The outcome: the forwarded requests, and whether the proxy then refused or waited.

    Args:
        forwarded: method, target, body and tokens of each request that the proxy forwarded to its end; how much it forwards of an unfinished
            one depends on its buffers.
        refused: whether the proxy itself answered with an error.
        statuses: the statuses of all answers, for the reader; they are not compared.
    """

    forwarded: tuple[Forwarded, ...]
    refused: bool
    statuses: tuple[int, ...] = ()

    def agrees(self, other: "Outcome") -> bool:
        """Return whether another proxy has the same outcome."""
        return (self.forwarded, self.refused) == (other.forwarded, other.refused)

    def __str__(self) -> str:
        said = [
            f"{method.decode('latin-1')} {shown(target)} {shown(body, 40)}"
            for method, target, body, _ in self.forwarded
        ]
        return f"forwards {said or 'nothing'}{', refuses' if self.refused else ''} {list(self.statuses)}"


def outcome(seen: Observation) -> Outcome:
    """Return the outcome of a case on a proxy."""
    # How much of a request is forwarded before an early answer ends it depends on buffers.
    early = seen.case.script.when is When.HEAD
    forwarded = tuple(
        (r.method, r.target, b"" if early else r.body, tuple(r.values(b"authorization")))
        for r in seen.received
        if r.whole or (early and r.method)
    )
    finals = seen.answers.finals
    # For an unfinished request, a proxy may wait for the rest or for its timeout, or refuse it once the client's side has ended.
    judged = seen.reading.end is not End.UNFINISHED
    refused = judged and any(answer.recorded is None and answer.status >= 300 for answer in finals)
    return Outcome(forwarded, refused, tuple(answer.status for answer in finals))
