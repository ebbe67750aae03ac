"""What a dashboard is: rows of panels, each with the queries that it draws."""

from dataclasses import dataclass
from typing import Literal

Unit = Literal["short", "reqps", "ops", "s", "decbytes", "percentunit"]
"""As Grafana calls it: a number, requests or operations a second, seconds, bytes, a share of 1."""
RATE = "$__rate_interval"
"""Over how long a rate is taken: who draws puts it in, since it goes by the distance of the points."""


@dataclass(frozen=True)
class Query:
    """One PromQL expression."""

    expression: str
    legend: str
    """Of each of its series; {{label}} stands for the label's value."""


@dataclass(frozen=True)
class Panel:
    """One picture."""

    title: str
    unit: Unit
    queries: tuple[Query, ...]
    stacked: bool = False
    """Whether the series are parts of a sum."""


@dataclass(frozen=True)
class Row:
    """Panels that belong together."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Dashboard:
    """Rows under a name."""

    name: str
    """In addresses and file names."""
    title: str
    rows: tuple[Row, ...]


def panel(title: str, unit: Unit, *queries: tuple[str, str], stacked: bool = False) -> Panel:
    """A panel of pairs of expression and legend."""
    return Panel(title, unit, tuple(Query(*query) for query in queries), stacked)


def rate(metric: str, by: str = "") -> str:
    """How much a counter grows a second, summed by labels."""
    summed = f"sum by ({by})" if by else "sum"
    return f"{summed} (rate({metric}[{RATE}]))"


def or_zero(expression: str) -> str:
    """An expression that is 0 where there is nothing to count yet, as of errors that never were."""
    return f"{expression} or vector(0)"


def share(part: str, whole: str) -> str:
    """One rate by another; 0 where both are."""
    return f"({part}) / clamp_min({whole}, 1e-9)"
