"""The model of a dashboard: rows of panels, each with the queries that it draws."""

from dataclasses import dataclass
from typing import Literal

Unit = Literal["short", "reqps", "ops", "s", "decbytes", "percentunit"]
"""Unit in Grafana's terms: a number, requests or operations per second, seconds, bytes, a fraction of 1."""
RATE = "$__rate_interval"
"""Placeholder for the window of a rate, which the renderer fills in: it depends on the distance of the points."""


@dataclass(frozen=True)
class Query:
    """One PromQL expression."""

    expression: str
    legend: str
    """Legend of each of its series; {{label}} stands for the label's value."""


@dataclass(frozen=True)
class Panel:
    """One graph."""

    title: str
    unit: Unit
    queries: tuple[Query, ...]
    stacked: bool = False
    """Stacking of the series, for those that are parts of a sum."""


@dataclass(frozen=True)
class Row:
    """Panels that belong together."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Dashboard:
    """Rows under a name."""

    name: str
    """Name in addresses and file names."""
    title: str
    rows: tuple[Row, ...]


def panel(title: str, unit: Unit, *queries: tuple[str, str], stacked: bool = False) -> Panel:
    """Return a panel of pairs of expression and legend."""
    return Panel(title, unit, tuple(Query(*query) for query in queries), stacked)


def rate(metric: str, by: str = "") -> str:
    """Return an expression for a counter's growth per second, summed by labels."""
    summed = f"sum by ({by})" if by else "sum"
    return f"{summed} (rate({metric}[{RATE}]))"


def or_zero(expression: str) -> str:
    """Return an expression that is 0 if there is nothing to count yet, such as errors that never occurred."""
    return f"{expression} or vector(0)"


def share(part: str, whole: str) -> str:
    """Return an expression for the ratio of two rates; 0 if both are 0."""
    return f"({part}) / clamp_min({whole}, 1e-9)"
