import ast
from collections.abc import Callable

import pytest
from servicekit.caching import remembered

from estate.core.paths import PROJECT

OF_NO_REQUEST = {"api_gateway/limits.py", "servicekit/logs.py", "servicekit/metrics.py", "servicekit/openapi.py"}
"""Modules that may use functools' caches: their arguments are times, routes with known methods or limits, or none."""


@pytest.fixture
def calls() -> list[str]:
    return []


@pytest.fixture
def same(calls: list[str]) -> Callable[[str], str]:
    """Return a function that returns its text, and records its calls."""

    @remembered(entries=2, characters=10)
    def same(text: str) -> str:
        calls.append(text)
        return text

    return same


def test_a_long_text_is_not_kept_and_a_short_one_is(same: Callable[[str], str], calls: list[str]) -> None:
    for text in ("a" * 10, "b" * 11):
        assert [same(text), same(text)] == [text, text]
    assert calls == ["a" * 10, "b" * 11, "b" * 11]


def test_no_more_results_are_kept_than_said(same: Callable[[str], str], calls: list[str]) -> None:
    assert "".join(map(same, "aabbccaab")) == "aabbccaab"
    assert calls == ["a", "b", "c", "a", "b"]


def test_what_fails_is_not_kept(calls: list[str]) -> None:
    @remembered(entries=2, characters=10)
    def fail(text: str) -> str:
        calls.append(text)
        raise LookupError

    for _ in range(2):
        with pytest.raises(LookupError):
            fail("a")
    assert calls == ["a", "a"]


def test_no_cache_of_the_apps_has_keys_without_a_bound() -> None:
    found: set[str] = set()
    for file in (PROJECT / "apps").glob("*/src/**/*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = (
                {alias.name for alias in node.names} if isinstance(node, ast.ImportFrom | ast.Import) else set[str]()
            )
            if names & {"lru_cache", "cache", "functools"}:
                found.add("/".join(file.parts[file.parts.index("src") + 1 :]))
    assert found == OF_NO_REQUEST
