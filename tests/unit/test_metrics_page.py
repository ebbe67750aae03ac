"""docs/metrics.md, or the README.md of a service, lists exactly the metrics of our services, by name and labels."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from estate.core.paths import PROJECT

KINDS = {"Counter", "Gauge", "Histogram"}
OURS = ("## Every service", "## Postgres and Redis")
"""Headings between which the page describes our services."""
ROW = re.compile(r"^\| `(\w+)` \| ((?:`\w+`(?:, )?)*) ?\|", re.MULTILINE)

Metric = tuple[str, tuple[str, ...]]


def defined(file: Path) -> Iterator[Metric]:
    """Yield the metrics that a module defines: Prometheus' name, and labels."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in KINDS:
            name, _, *labels = (ast.literal_eval(argument) for argument in node.args)
            yield name + ("_total" if node.func.id == "Counter" else ""), tuple(*labels)


def test_the_page_has_every_metric_of_our_services() -> None:
    page = (PROJECT / "docs" / "metrics.md").read_text()
    own = [file.read_text() for file in (PROJECT / "apps").glob("*/README.md")]
    ours = "\n".join([page[page.index(OURS[0]) : page.index(OURS[1])], *own])
    reported = {(name, tuple(re.findall(r"\w+", labels))) for name, labels in ROW.findall(ours)}
    code = {metric for file in (PROJECT / "apps").glob("*/src/**/*.py") for metric in defined(file)}
    assert len(code) > 20
    assert reported == code
