"""Cases made from those of the corpus by random changes."""

import re
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache

from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st
from hypothesis.errors import FlakyFailure

from tests.process.differential.case import ECHO, Case
from tests.process.differential.corpus import corpus
from tests.process.differential.invariants import violations
from tests.process.differential.lane import Lane
from tests.process.differential.targets import OURS

LARGEST_BYTES = 2000
FRAGMENTS = (
    b"\r\n", b"\n", b"\r", b" ", b"\t", b"\0", b":", b",", b";", b"0", b"1", b"-", b"+", b"\x0b", b"\xff", b"/", b"?", b"#", b"%2f", b"..",
    b"\r\n\r\n", b"0\r\n\r\n",
    b"Content-Length: 5\r\n", b"Content-Length: 0\r\n", b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: identity\r\n",
    b"Connection: close\r\n",
    b"Connection: content-length\r\n", b"Connection: transfer-encoding, host\r\n", b"Connection: Upgrade\r\nUpgrade: websocket\r\n",
    b"Connection: Upgrade\r\nUpgrade: h2c\r\n",
    b"Expect: 100-continue\r\n", b"Host: evil.test\r\n", b"Authorization: Bearer other\r\n", b"X-Forwarded-For: 6.6.6.6\r\n", b"Trailer: x\r\n",
    b"TE: trailers\r\n",
    b"GET /s/smuggled HTTP/1.1\r\nHost: api.test\r\n\r\n", b"HTTP/1.0", b"HEAD", b"POST", b"chunked", b", ",
    b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n",
)  # fmt: skip
NUMBER = b"x-recorded: {number}\r\n"


@st.composite
def changed(draw: st.DrawFn, raw: bytes) -> bytes:
    """Return bytes with one to three changes: an insertion, deletion, duplication, replacement or change of case, mostly at a word's end."""
    for _ in range(draw(st.integers(1, 3))):
        ends = [0, *(found.end() for found in re.finditer(rb"\r\n|[:, /]", raw)), len(raw)]
        at = draw(st.one_of(st.sampled_from(ends), st.integers(0, len(raw))))
        to = min(at + draw(st.integers(1, 20)), len(raw))
        before, taken, after = raw[:at], raw[at:to], raw[to:]
        put = draw(st.one_of(st.sampled_from(FRAGMENTS), st.binary(min_size=1, max_size=3)))
        raw = before + draw(st.sampled_from((put + taken, put, b"", taken * 2, taken.swapcase()))) + after
    return raw


@st.composite
def mutations(draw: st.DrawFn) -> Case:
    """Return a case of the corpus with its request, or the service's answer, changed; sent as it is or in two segments."""
    cases = sources()
    case = cases[draw(st.integers(0, len(cases) - 1))]
    if case.script is not ECHO and draw(st.booleans()):
        answer = draw(changed(case.script.answer))
        assume(answer.count(NUMBER) == 1)
        case = replace(case, script=replace(case.script, answer=answer))
    else:
        case = replace(case, pieces=(draw(changed(case.raw)),))
    if draw(st.booleans()):
        case = case.split(draw(st.integers(0, len(case.raw))))
    return replace(case, name=f"mutation of {case.name}")


@cache
def sources() -> tuple[Case, ...]:
    """Return the cases to mutate."""
    return tuple(case for case in corpus() if len(case.raw) + len(case.script.answer) < LARGEST_BYTES)


@dataclass
class Failure:
    """A mutation that violates an invariant, as small as it could be made.

    Args:
        kind: the proxy and the invariant.
        case: the mutation.
        what: the violation.
    """

    kind: str
    case: Case
    what: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.what}\n  sends {self.case.pieces!r}\n  the service answers {self.case.script!r}"


def search(lane: Lane, seed: int, examples: int, known: frozenset[str] = frozenset()) -> tuple[int, Failure | None]:
    """Search mutations for one that fails, and shrink it.

    Args:
        lane: the proxies.
        seed: the seed of the search; the same one finds the same.
        examples: the maximum number of mutations.
        known: kinds of failures to skip.

    Returns:
        The number of mutations sent, and the failure.
    """
    names = [name for name in OURS if name in lane.running]
    sent = 0
    failure: Failure | None = None

    @seeded(seed)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=(HealthCheck.too_slow, HealthCheck.filter_too_much),
    )
    @given(mutations())
    def holds(case: Case) -> None:
        nonlocal sent, failure
        sent += 1
        for name, seen in lane.observe([case], names).items():
            for wrong in violations(seen[case.name]):
                kind = f"{name}, {wrong.partition(':')[0]}"
                if kind not in known:
                    failure = Failure(kind, case, wrong.partition(": ")[2])
                    raise AssertionError(kind)

    with suppress(AssertionError, FlakyFailure):  # one that does not fail every time is a failure as well
        holds()
    return sent, failure
