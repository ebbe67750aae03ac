"""What a proxy made of a case, in a form that proxies can be compared by."""

from dataclasses import dataclass

from tests.differential.case import When
from tests.differential.exchange import Observation, shown
from tests.differential.reading import End

Forwarded = tuple[bytes, bytes, bytes, tuple[bytes, ...]]


@dataclass(frozen=True)
class Outcome:
    """What it forwarded, and whether it then refused or waited.

    Args:
        forwarded: method, target, body and tokens of each request that it forwarded to its end; how much it forwards of one that never
            comes to its end is a matter of buffers.
        refused: whether the proxy itself answered with an error.
        statuses: of all answers, for a person; they are not compared.
    """

    forwarded: tuple[Forwarded, ...]
    refused: bool
    statuses: tuple[int, ...] = ()

    def agrees(self, other: "Outcome") -> bool:
        """Whether another proxy made the same of it."""
        return (self.forwarded, self.refused) == (other.forwarded, other.refused)

    def __str__(self) -> str:
        said = [
            f"{method.decode('latin-1')} {shown(target)} {shown(body, 40)}"
            for method, target, body, _ in self.forwarded
        ]
        return f"forwards {said or 'nothing'}{', refuses' if self.refused else ''} {list(self.statuses)}"


def outcome(seen: Observation) -> Outcome:
    """What a proxy made of a case."""
    # How much of a request is forwarded before an early answer ends it is a matter of buffers.
    early = seen.case.script.when is When.HEAD
    forwarded = tuple(
        (r.method, r.target, b"" if early else r.body, tuple(r.values(b"authorization")))
        for r in seen.received
        if r.whole or (early and r.method)
    )
    finals = seen.answers.finals
    # Of what is not finished a proxy may wait for the rest, or for its time to be over, or refuse it where the client's side has ended.
    judged = seen.reading.end is not End.UNFINISHED
    refused = judged and any(answer.recorded is None and answer.status >= 300 for answer in finals)
    return Outcome(forwarded, refused, tuple(answer.status for answer in finals))
