import pytest
from servicekit.tracing import continued

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def test_a_trace_is_continued_under_a_span_of_ones_own() -> None:
    trace = continued(f"00-{TRACE}-{SPAN}-01")
    assert trace.trace_id == TRACE
    assert trace.parent_id == SPAN
    assert trace.span_id != SPAN
    assert trace.traceparent == f"00-{TRACE}-{trace.span_id}-01"


@pytest.mark.parametrize(
    "header",
    [
        "",
        "x",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
    ],
)
def test_a_malformed_one_begins_a_new_trace(header: str) -> None:
    trace = continued(header)
    assert len(trace.trace_id) == 32
    assert trace.trace_id != TRACE
    assert not trace.sampled
