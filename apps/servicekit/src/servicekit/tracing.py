"""W3C Trace Context (https://www.w3.org/TR/trace-context/): the trace of a request, and its spans if they are wanted."""

import random
import re
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import TYPE_CHECKING, NamedTuple

from servicekit.problems import Problem
from servicekit.settings import Tracing

if TYPE_CHECKING:
    from servicekit.spans import Attributes, Span, Spans

TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
NOTHING = nullcontext()


class Trace(NamedTuple):
    """The position of a request in its trace."""

    trace_id: str
    span_id: str
    sampled: bool
    parent_id: str | None = None
    span: "Span | None" = None
    """Span of the request, if it is recorded."""

    @property
    def traceparent(self) -> str:
        """Return the traceparent header for requests that are made on behalf of this one."""
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.sampled else '00'}"


current: ContextVar[Trace | None] = ContextVar("trace", default=None)
"""Trace of the request that is being served, if its spans are recorded."""


def continued(header: str) -> Trace:
    """Return the trace that the caller's traceparent names, or a new one if it is missing or malformed."""
    found = TRACEPARENT.fullmatch(header) if header else None
    if found is None:
        ids = random_hex(24)
        return Trace(ids[:32], ids[32:], False)  # noqa: FBT003 - a keyword argument takes half as long again
    return Trace(found[1], new_span_id(), sampled=int(found[3], 16) & 1 == 1, parent_id=found[2])


def new_span_id() -> str:
    """Return a random span id."""
    return random_hex(8)


def random_hex(size_bytes: int) -> str:
    """Return random bytes in hexadecimal, for ids of traces.

    They need not be unpredictable, so the kernel's random generator is not needed.
    """
    return random.randbytes(size_bytes).hex()  # noqa: S311


def spans(service: str, settings: Tracing) -> "Spans | None":
    """Return the recorder of a service's spans; None if they are not wanted."""
    if settings.endpoint is None:
        return None
    # Imported here: OpenTelemetry costs time and memory, and most runs do without it.
    from servicekit.spans import Spans

    return Spans(service, settings.endpoint, settings.ratio)


def step(name: str, attributes: "Attributes") -> AbstractContextManager[object]:
    """Return a context that records a span for a part of the current request, such as a database query; it does nothing without a recorded trace.

    Args:
        name: name of the span, one of few, independent of the request.
        attributes: attributes in OpenTelemetry's conventions.
    """
    trace = current.get()
    return recorded(trace.span, name, attributes) if trace and trace.span else NOTHING


@contextmanager
def recorded(span: "Span", name: str, attributes: "Attributes") -> Generator["Span"]:
    """Record a child span, and yield it; an exception marks it as failed, unless it is a Problem."""
    child = span.child(name, attributes)
    error = None
    try:
        yield child
    except Exception as raised:
        error = None if isinstance(raised, Problem) else type(raised).__name__
        raise
    finally:
        child.end(error=error)
