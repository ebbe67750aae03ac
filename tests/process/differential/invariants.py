"""Invariants that hold for every case on every proxy of ours."""

import re
from collections.abc import Callable, Iterator
from http import HTTPStatus

from tests.process.differential.answers import Answer, read_answers
from tests.process.differential.case import ECHO
from tests.process.differential.exceptions import excepted
from tests.process.differential.exchange import Observation, shown
from tests.process.differential.reading import End, Message, canonical
from tests.process.differential.recorder import Received
from tests.process.differential.targets import GATEWAY, INGRESS

HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"upgrade",
    }
)
"""Fields for the next hop alone (RFC 9110, section 7.6.1), next to Transfer-Encoding, which every hop sets for its own framing."""
FRAMING = frozenset({b"content-length", b"transfer-encoding"})
GATEWAYS_OWN = frozenset(
    {
        b"x-request-id",
        b"x-request-timeout-ms",
        b"traceparent",
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-proto",
    }
)
"""Fields that only the gateway sets, each once."""
REMOVED = frozenset({b"forwarded", b"expect", b"tracestate"})
"""Fields that the gateway removes: a client could claim anything, and the gateway's own server answers Expect."""
CLAIMS = re.compile(
    rb"x-(?:forwarded-.*|client-ip|cluster-client-ip|http-method|http-method-override|method-override|original-(?:host|url)|real-ip|rewrite-url)"
    rb"|true-client-ip"
)
"""Fields that the Ingress controller removes as well, with - or _."""
ADDED = frozenset({b"x-forwarded-port"})
"""Fields that the Ingress controller adds, and the gateway passes on."""
UNKNOWN = (501, 505)
"""Answers to a method, transfer coding or version that is unknown (RFC 9110, sections 15.6.2 and 15.6.6; RFC 9112, section 6.1)."""
IDEMPOTENT = frozenset({b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE"})

Invariant = Callable[[Observation], Iterator[str]]


def one_in_at_most_one_out(seen: Observation) -> Iterator[str]:
    """Check that every request at the service is one of the client's, in their order, with its method, target, body and token."""
    left = list(seen.reading.messages)
    previous: Message | None = None
    for received in seen.received:
        if received.flaws and not received.method:
            continue
        if previous and repeats(received, previous, seen):
            continue
        reasons: list[str] = []
        while left and (reason := explain(received, left[0])):
            reasons.append(reason)
            left.pop(0)
        if not left:
            wrong = "; ".join(reasons) or seen.reading.reason or "it was never sent, or comes twice"
            yield f"the service got {shown(bytes(received.raw))}: {wrong}"
            return
        previous = left.pop(0)


def matched(seen: Observation) -> list[tuple[Received, Message]]:
    """Return the requests at the service, each with the client's request that it matches."""
    pairs: list[tuple[Received, Message]] = []
    left = list(seen.reading.messages)
    for received in seen.received:
        while left and explain(received, left[0]):
            left.pop(0)
        if left:
            pairs.append((received, left.pop(0)))
    return pairs


def explain(received: Received, sent: Message) -> str:
    """Return the difference between a request at the service and one that the client sent; empty where they match."""
    if sent.refused:
        return f"the client's is to be refused: {sent.refused}"
    if received.method != sent.method:
        return f"not the method {sent.method.decode('latin-1')}"
    if canonical(received.target) not in {canonical(target) for target in sent.targets}:
        return f"not the target {shown(sent.target)}"
    if received.whole and not sent.whole:
        return "it is whole, and the client's is not"
    if not sent.body.startswith(received.body) or (received.whole and received.body != sent.body):
        return f"not the body {shown(sent.body)}"
    if received.values(b"authorization") != sent.values(b"authorization"):
        return f"not the token {sent.values(b'authorization')!r}"
    return ""


def repeats(received: Received, previous: Message, seen: Observation) -> bool:
    """Return whether an idempotent request is repeated because the service did not answer it (RFC 9110, section 9.2.2)."""
    unanswered = not seen.case.script.answer or not seen.case.script.answer.startswith(b"HTTP/1.1 ")
    return unanswered and previous.method in IDEMPOTENT and not explain(received, previous)


def forwarded_without_flaw(seen: Observation) -> Iterator[str]:
    """Check that every request that reaches the service can be read in one way only."""
    for received in seen.received:
        for flaw in received.flaws:
            yield f"the service got {flaw}: {shown(bytes(received.raw))}"


def only_the_gateway_says_who_asks(seen: Observation) -> Iterator[str]:
    """Check that the fields that only the gateway sets reach the service once each, whatever the client sends."""
    for received, sent in matched(seen):
        for name in GATEWAYS_OWN:
            # A WebSocket has no deadline for an answer.
            if len(received.values(name)) != 1 and not (sent.websocket and name == b"x-request-timeout-ms"):
                yield f"{name.decode()}: {received.values(name)!r} at the service"
        said = [received.values(name) for name in (b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host")]
        hosts = received.values(b"host")
        if seen.target == GATEWAY and said != [[b"127.0.0.1"], [b"http"], hosts]:
            yield f"X-Forwarded-For, -Proto, -Host are {said!r}"
        if hosts and hosts[0] not in sent.hosts:
            yield f"Host is {hosts[0]!r}, not one of {sent.hosts!r}"


def fields_pass_once(seen: Observation) -> Iterator[str]:
    """Check that end-to-end fields reach the service as they were sent, and hop-by-hop fields do not."""
    for received, sent in matched(seen):
        hop_by_hop = HOP_BY_HOP - ({b"connection", b"upgrade"} if sent.websocket else set[bytes]())
        if hops := {name for name, _ in received.headers} & (hop_by_hop | REMOVED):
            yield f"{sorted(hops)!r} reached the service"
        kept = GATEWAYS_OWN | FRAMING | ADDED | HOP_BY_HOP | REMOVED | {b"host"}
        got = sorted(pair for pair in received.headers if pair[0] not in kept)
        own = kept | (sent.words - {b"authorization"})
        want = sorted(pair for pair in sent.headers if pair[0] not in own and not taken_out(seen, pair[0]))
        if missing := [pair for pair in want if pair not in got]:
            yield f"fields were lost: {missing!r}"
        if foreign := [pair for pair in got if pair not in want]:
            yield f"fields were made up, or were for one hop: {foreign!r}"


def taken_out(seen: Observation, name: bytes) -> bool:
    """Return whether the Ingress controller removes a field."""
    return seen.target == INGRESS and CLAIMS.fullmatch(name.replace(b"_", b"-")) is not None


def waits_for_body(seen: Observation, status: int) -> bool:
    """Return whether the Ingress controller still reads the body of a request with an expectation that it does not know.

    Go's server answers it before any handler is called, and has only the time limit of whole requests for it (docs/clusters.md).
    """
    return seen.target == INGRESS and status == HTTPStatus.EXPECTATION_FAILED and seen.reading.end is not End.WHOLE


def answers_are_whole(seen: Observation) -> Iterator[str]:
    """Check that the client gets complete answers, at most one for each request, with no byte left over.

    No answer follows one that closes the connection, and the connection then ends.
    """
    answers = seen.answers
    yield from answers.flaws
    most = max(len(seen.reading.messages) + (seen.reading.end is not End.WHOLE), 1) + seen.probed
    if len(answers.finals) > most:
        yield f"{len(answers.finals)} answers to {most} requests at the most: {shown(seen.raw_answers)}"
    if answers.rest and not (answers.finals and not answers.finals[-1].whole):
        yield f"bytes beyond the last answer: {shown(answers.rest)}"
    for number, answer in enumerate(answers.finals):
        if not answer.whole and not broken_by_service(seen, answer):
            yield f"an answer is cut off: {shown(seen.raw_answers)}"
        if answer.closes and number + 1 < len(answers.finals):
            yield "an answer follows one that closes the connection"
    last = answers.finals[-1] if answers.finals else None
    if last and last.closes and last.whole and not seen.closed and not waits_for_body(seen, last.status):
        yield "the connection stays open after an answer that closes it"
    if seen.endless and not answers.switched:
        yield f"the connection never ends: {shown(seen.raw_answers)}"


def broken_by_service(seen: Observation, answer: Answer) -> bool:
    """Return whether an answer is cut off because the service's own was, or could not be read."""
    script = seen.case.script
    given = read_answers(script.answer.replace(b"{number}", b"0"), [], ended=script.close)
    good = bool(given.whole) and not given.flaws and not given.rest
    return answer.recorded is not None and not good


def clients_are_at_fault_for_what_they_send(seen: Observation) -> Iterator[str]:
    """Check that a proxy sends no 5xx of its own while the service answers everything it gets: a client must not make the service look faulty."""
    if seen.case.script != ECHO or any(message.websocket for message in seen.reading.messages):
        return
    for answer in seen.answers.finals:
        if answer.recorded is None and answer.status >= 500 and answer.status not in UNKNOWN:
            yield f"{answer.status}: {shown(answer.body)}"


def answers_are_its_own(seen: Observation) -> Iterator[str]:
    """Check that an answer of the service goes to the client that asked, in the order of its requests."""
    own = [r.number for r in seen.received]
    probes = [r.number for r in seen.seen_canaries if r.values(b"authorization") == [b"Bearer probe"]]
    got = [answer.recorded for answer in seen.answers.finals if answer.recorded is not None]
    if foreign := [number for number in got if number not in own + probes]:
        yield f"the client got answers to other requests: {foreign!r} of {own!r}"
    if got != sorted(set(got)):
        yield f"answers came twice, or in another order: {got!r}"
    if seen.probed and (
        len(seen.answers.whole) <= len(seen.reading.messages) or seen.answers.finals[-1].recorded not in probes
    ):
        yield f"the connection was left open, and the next request on it failed: {shown(seen.raw_answers)}"


def others_are_untouched(seen: Observation) -> Iterator[str]:
    """Check that requests of another client reach the service unchanged, with their own token, and that their answers come back."""
    for canary in seen.canaries:
        if not canary.answered:
            yield f"another client's request failed: {canary.detail}"
    want = [(c.target, [c.token]) for c in seen.canaries]
    got = [(r.target, r.values(b"authorization")) for r in seen.seen_canaries if not r.target.endswith(b"/probe")]
    if sorted(got) != sorted(want):
        yield f"of other clients' requests {want!r} the service got {got!r}"
    for received in seen.seen_canaries:
        if received.flaws or received.body or received.method != b"GET":
            yield f"another client's request was changed: {shown(bytes(received.raw))}"


INVARIANTS: tuple[Invariant, ...] = (
    others_are_untouched,
    one_in_at_most_one_out,
    forwarded_without_flaw,
    answers_are_its_own,
    answers_are_whole,
    clients_are_at_fault_for_what_they_send,
    only_the_gateway_says_who_asks,
    fields_pass_once,
)
"""Invariants, the most dangerous violations first."""


def violations(seen: Observation) -> list[str]:
    """Return all violations for a case, each with its invariant's name; none where the proxy is exempt."""
    if excepted(seen.target, seen.reading.messages):
        return []
    return [f"{invariant.__name__}: {wrong}" for invariant in INVARIANTS for wrong in invariant(seen)]
