"""Settings of addresses: the services and the estate parse them alike."""

from contextlib import suppress
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st
from servicekit import addresses

import infra.addresses

LAYERS = pytest.mark.parametrize("layer", [addresses, infra.addresses])
HOSTS = ["localhost", "a.b-c.example.com", "a.example.com.", "my_service", "127.0.0.1", "::1", "xn--bcher-kva.example"]
NO_HOSTS = [
    "", ".", "a..b", ".a", "a b", "a\n", "-a", "a-", "a/b", "u:hunter2@h", "[::1]", "1:2", "256.1.1.1", "a" * 64,
    ".".join(["a" * 60] * 5), "ü", "a\0b", "h:80",
]  # fmt: skip
URLS = [
    "http://h", "https://h/", "http://h:4318/otlp", "https://h.example.com:65535/a?b=c&d=%20", "http://[::1]:1/x", "http://127.0.0.1:1",
]  # fmt: skip
NO_URLS = [
    "", "h", "h:80", "ftp://h", "http://", "http:///x", "http://[", "http://[zz]", "http://[::1", "http://a..b", "http://h:0",
    "http://h:65536", "http://h:x", "http://h:-1", "http://u@h", "http://u:hunter2@h", "http://:hunter2@h", "http://@h",
    "http://h\n", "http://h\nhunter2", "http://h/\thunter2", " http://h", "http://h/ x", "http://h\\@g", "http://h#x",
]  # fmt: skip
PLACES = ["localhost:8500", "consul.example.com:1", "127.0.0.1:65535", "[::1]:8500"]
NO_PLACES = [
    "", "consul", "consul:", ":8500", "consul:0", "consul:65536", "consul:hunter2", "::1:8500", "http://consul:8500",
    "u:hunter2@consul:8500", "consul:8500/x", "consul:8500?x", "consul:8500#x", "a..b:1", "consul:8500\n", "a\tb:1", "[:1",
]  # fmt: skip


@LAYERS
@pytest.mark.parametrize(
    ("kind", "value"),
    [("host", v) for v in HOSTS] + [("url", v) for v in URLS] + [("host_and_port", v) for v in PLACES],
)
def test_an_address_that_can_be_is_taken_as_it_is(layer: ModuleType, kind: str, value: str) -> None:
    assert getattr(layer, kind)(value) == value


@LAYERS
@pytest.mark.parametrize(
    ("kind", "value"),
    [("host", v) for v in NO_HOSTS] + [("url", v) for v in NO_URLS] + [("host_and_port", v) for v in NO_PLACES],
)
def test_an_address_that_cannot_be_is_refused_unseen(layer: ModuleType, kind: str, value: str) -> None:
    with pytest.raises(ValueError, match=r"^wants ") as refused:
        getattr(layer, kind)(value)
    assert "hunter2" not in str(refused.value)


@LAYERS
@pytest.mark.parametrize("kind", ["host", "url", "host_and_port"])
@given(value=st.one_of(st.text(), st.text("htps:/@[].0123456789a\n\t %#?\\").map("http://".__add__)))
def test_any_text_is_taken_or_refused(layer: ModuleType, kind: str, value: str) -> None:
    with suppress(ValueError):
        taken = getattr(layer, kind)(value)
        assert taken == value
        assert taken.isprintable()
        assert "@" not in taken.removeprefix("http://").partition("/")[0].partition("?")[0]
