"""W3C Trace Context (https://www.w3.org/TR/trace-context/): which trace a request belongs to; its spans, where they are wanted."""

import random
import re
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

from servicekit.problems import Problem
from servicekit.settings import Tracing

if TYPE_CHECKING:
    from servicekit.spans import Attributes, Span, Spans

TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
NOTHING = nullcontext()


@dataclass(frozen=True, slots=True)
class Trace:
    """A request's place in its trace."""

    trace_id: str
    span_id: str
    sampled: bool
    parent_id: str | None = None
    span: "Span | None" = None
    """What is recorded of it."""

    @property
    def traceparent(self) -> str:
        """The header for requests that are made in the course of this one."""
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.sampled else '00'}"


current: ContextVar[Trace | None] = ContextVar("trace", default=None)
"""Of the request that is being served, where spans are recorded of it."""


def continued(header: str) -> Trace:
    """The trace that the caller's traceparent names, or a new one where it is missing or malformed."""
    found = TRACEPARENT.fullmatch(header) if header else None
    if found is None:
        ids = f"{random.getrandbits(192):048x}"
        return Trace(ids[:32], ids[32:], sampled=False)
    return Trace(found[1], new_span_id(), sampled=int(found[3], 16) & 1 == 1, parent_id=found[2])


def new_span_id() -> str:
    """Random, as the ids have to be; nobody has to fear that they are guessed, so that the kernel need not be asked."""
    return f"{random.getrandbits(64):016x}"


def spans(service: str, settings: Tracing) -> "Spans | None":
    """What records a service's spans; None where they are not wanted."""
    if settings.endpoint is None:
        return None
    # Imported here: OpenTelemetry takes its time and memory, and most runs do without.
    from servicekit.spans import Spans

    return Spans(service, settings.endpoint, settings.ratio)


def step(name: str, attributes: "Attributes") -> AbstractContextManager[object]:
    """A span of a part of the current request, such as a question to its database; nothing where none is recorded.

    Args:
        name: few of them, whatever the request.
        attributes: by OpenTelemetry's conventions.
    """
    trace = current.get()
    return recorded(trace.span, name, attributes) if trace and trace.span else NOTHING


@contextmanager
def recorded(span: "Span", name: str, attributes: "Attributes") -> Generator["Span"]:
    """A span beneath another one; an exception is its error, unless it is an answer."""
    child = span.child(name, attributes)
    error = None
    try:
        yield child
    except Exception as raised:
        error = None if isinstance(raised, Problem) else type(raised).__name__
        raise
    finally:
        child.end(error=error)
