"""Charts of panels as SVG, rendered with Vega-Lite in the page's colours."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import vl_convert

from infra.dashboards.panels import Panel, Unit

COLOURS = 10
"""Number of the page's series colours (--series-0 and so on); further series start over at the first."""
WIDTH, HEIGHT, LABELS = 440, 170, 52
"""Pixels: width and height of a chart, and width of its axis labels, which is fixed so that all charts align."""
LABEL_OF: dict[Unit, str] = {
    "short": "datum.value < 1 ? format(datum.value, '.2~g') : format(datum.value, '~s')",
    "reqps": "(datum.value < 1 ? format(datum.value, '.2~g') : format(datum.value, '~s')) + '/s'",
    "ops": "(datum.value < 1 ? format(datum.value, '.2~g') : format(datum.value, '~s')) + '/s'",
    "s": "datum.value < 1 ? format(datum.value * 1000, '.3~g') + ' ms' : format(datum.value, '~g') + ' s'",
    "decbytes": "format(datum.value, '~s') + 'B'",
    "percentunit": "format(datum.value, '.2~%')",
}
"""Vega expressions of axis labels, by unit."""
PREFIXES = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


@dataclass(frozen=True)
class Series:
    """One line of a chart."""

    name: str
    values: dict[float, float]
    """Values by time in seconds."""


def series(legend: str, result: dict[str, Any]) -> Series | None:
    """Return a series of a Prometheus response; None if it has no finite value."""
    name = re.sub(r"\{\{(\w+)\}\}", lambda found: result["metric"].get(found[1], ""), legend)
    values = {at: float(value) for at, value in result["values"] if math.isfinite(float(value))}
    return Series(name, values) if values else None


def picture(panel: Panel, drawn: Sequence[Series], start: float, end: float, step: int) -> str:
    """Return the SVG of a panel.

    Args:
        panel: the panel to draw.
        drawn: the panel's series; never empty.
        start: the start of the time range in seconds, at the time of a value.
        end: the end of the time range in seconds.
        step: the seconds between two values.
    """
    times = [start + step * number for number in range(int((end - start) / step) + 1)]
    # A missing value interrupts the line.
    rows = [
        {"at": at * 1000, "value": one.values.get(at), "series": str(number)}
        for number, one in enumerate(drawn)
        for at in times
    ]
    highest = max(max(one.values.values()) for one in drawn)
    mark = (
        {"type": "area", "line": {"strokeWidth": 1.5}, "fillOpacity": 0.35}
        if panel.stacked
        else {"type": "line", "strokeWidth": 1.5}
    )
    specification = {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "width": WIDTH,
        "height": HEIGHT,
        "padding": 2,
        "autosize": {"type": "fit", "contains": "padding"},
        "background": None,
        "data": {"values": rows},
        "mark": mark,
        "encoding": {
            "x": {
                "field": "at",
                "type": "temporal",
                "scale": {"type": "utc", "domain": [start * 1000, end * 1000]},
                "axis": {"title": None, "format": "%H:%M", "tickCount": 5, "labelFlush": True, "grid": False},
            },
            "y": {
                "field": "value",
                "type": "quantitative",
                "stack": "zero" if panel.stacked else None,
                "scale": {"domainMin": 0, "nice": 4} | ({} if highest > 0 else {"domainMax": 1}),
                "axis": {
                    "title": None,
                    "labelExpr": LABEL_OF[panel.unit],
                    "tickCount": 4,
                    "minExtent": LABELS,
                    "maxExtent": LABELS,
                    "domain": False,
                    "ticks": False,
                },
            },
            "color": {
                "field": "series",
                "type": "nominal",
                "legend": None,
                "scale": {
                    "domain": [str(number) for number in range(len(drawn))],
                    "range": [colour(number) for number in range(len(drawn))],
                },
            },
        },
        "config": {
            "view": {"stroke": None},
            "axis": {
                "labelColor": "var(--faint)",
                "gridColor": "var(--line)",
                "domainColor": "var(--line)",
                "tickColor": "var(--line)",
                "labelFont": "inherit",
                "labelFontSize": 11,
            },
        },
    }
    return vl_convert.vegalite_to_svg(specification)


def colour(number: int) -> str:
    """Return the colour of a series."""
    return f"var(--series-{number % COLOURS})"


def now(one: Series, end: float, unit: Unit) -> str:
    """Return the value of a series at the end of the time range; a dash if it has none."""
    return shown(one.values[end], unit) if end in one.values else "-"


def shown(value: float, unit: Unit) -> str:
    """Return a value in human-readable form."""
    if unit == "percentunit":
        return f"{value * 100:.3g} %"
    if unit == "s" and value < 1:
        return f"{value * 1000:.3g} ms"
    suffix = {"reqps": "/s", "ops": "/s", "s": " s", "decbytes": "B", "short": ""}[unit]
    for size, prefix in PREFIXES:
        if value >= size:
            return f"{value / size:.3g} {prefix}{suffix}".rstrip()
    return f"{value:.3g}{' ' if unit == 'decbytes' else ''}{suffix}"
