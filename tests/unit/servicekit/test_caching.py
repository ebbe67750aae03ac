import ast

from servicekit.caching import remembered

from toolchain.paths import PROJECT

OF_NO_REQUEST = {"servicekit/caching.py", "servicekit/logs.py", "servicekit/metrics.py", "servicekit/openapi.py"}
"""Modules that may use functools' caches: their arguments are times, routes with known methods, or none."""


def test_a_long_argument_is_not_kept_and_a_short_one_is() -> None:
    calls: list[tuple[str, ...]] = []

    @remembered(entries=2, characters=10)
    def size(*texts: str) -> int:
        calls.append(texts)
        return sum(map(len, texts))

    assert [size("a" * 5, "b" * 5), size("a" * 5, "b" * 5)] == [10, 10]
    assert len(calls) == 1
    assert [size("a" * 5, "b" * 6), size("a" * 5, "b" * 6)] == [11, 11]
    assert len(calls) == 3


def test_no_more_results_are_kept_than_said() -> None:
    calls: list[str] = []

    @remembered(entries=2, characters=10)
    def same(text: str) -> str:
        calls.append(text)
        return text

    for text in "abcabc":
        assert same(text) == text
    assert len(calls) == 6


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
