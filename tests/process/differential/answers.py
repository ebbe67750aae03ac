"""Strict reading of the answers in the bytes that a client received."""

import re
from dataclasses import dataclass, field

import h11

INTERIM = re.compile(rb"HTTP/1\.1 1(?!01)[0-9]{2}[^\r\n]*\r\n(?:[^\r\n]+\r\n)*\r\n")
SWITCHING = b"HTTP/1.1 101 "


@dataclass
class Answer:
    """A final answer."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes = b""
    whole: bool = False

    def value(self, name: bytes) -> bytes:
        """Return the value of a field, or an empty one."""
        return next((value for key, value in self.headers if key == name), b"")

    @property
    def recorded(self) -> int | None:
        """Return the number of the request that the service answered with it; None for a proxy's own answer."""
        number = self.value(b"x-recorded")
        return int(number) if re.fullmatch(rb"[0-9]{1,9}", number) else None

    @property
    def closes(self) -> bool:
        """Return whether the answer ends the connection."""
        return b"close" in self.value(b"connection").lower()


@dataclass
class Answers:
    """The answers on a connection."""

    finals: list[Answer] = field(default_factory=list[Answer])
    rest: bytes = b""
    """Bytes that belong to no answer."""
    flaws: list[str] = field(default_factory=list[str])
    switched: bool = False
    """A flag: the connection has switched to another protocol."""

    @property
    def whole(self) -> list[Answer]:
        """Return the complete answers."""
        return [answer for answer in self.finals if answer.whole]


def read_answers(raw: bytes, methods: list[bytes], *, ended: bool) -> Answers:
    """Read the answers to requests of these methods, in their order.

    Args:
        raw: all received bytes.
        methods: the methods of the requests; further answers are read as answers to GET.
        ended: whether the proxy has closed its side.
    """
    answers = Answers(rest=raw)
    while answers.rest:
        while interim := INTERIM.match(answers.rest):
            answers.rest = answers.rest[interim.end() :]
        if answers.rest.startswith(SWITCHING):
            answers.switched, answers.rest = True, b""
        number = len(answers.finals)
        head = number < len(methods) and methods[number] == b"HEAD"
        if not answers.rest or not read_one(answers, b"HEAD" if head else b"GET", ended=ended):
            break
    return answers


def read_one(answers: Answers, method: bytes, *, ended: bool) -> bool:
    """Read one final answer from the rest; return whether it is complete."""
    parser = h11.Connection(h11.CLIENT)
    parser.send(h11.Request(method=method, target="/", headers=[("host", "x")]))
    parser.send(h11.EndOfMessage())
    parser.receive_data(answers.rest)
    if ended:
        parser.receive_data(b"")
    answer: Answer | None = None
    try:
        while (event := parser.next_event()) is not h11.NEED_DATA:
            if isinstance(event, h11.Response):
                answer = Answer(event.status_code, [(bytes(n), bytes(v)) for n, v in event.headers])
                answers.finals.append(answer)
                check_framing(answers, answer)
            elif isinstance(event, h11.Data) and answer:
                answer.body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage) and answer:
                answer.whole = True
                answers.rest = parser.trailing_data[0]
                return True
            else:
                break
    except h11.RemoteProtocolError as error:
        if answer is None:
            answers.flaws.append(f"no HTTP came back: {error}")
    return False


def check_framing(answers: Answers, answer: Answer) -> None:
    """Record framing that clients could read in more than one way (RFC 9112, section 6.3)."""
    lengths = [value for name, value in answer.headers if name == b"content-length"]
    codings = [value for name, value in answer.headers if name == b"transfer-encoding"]
    if len(lengths) + len(codings) > 1:
        answers.flaws.append("an answer is framed in more than one way")
    if answer.status in (204, 304) and codings:
        answers.flaws.append(f"a {answer.status} with a transfer coding")
