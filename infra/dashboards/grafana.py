"""The dashboards as Grafana's JSON."""

from string import ascii_uppercase

from grafana_foundation_sdk.builders import common, dashboard, prometheus, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import (
    LegendDisplayMode,
    LegendPlacement,
    SortOrder,
    StackingMode,
    TooltipDisplayMode,
)
from grafana_foundation_sdk.models.dashboard import DataSourceRef

from infra.dashboards.panels import Dashboard, Panel

SOURCE = DataSourceRef(type_val="prometheus", uid="prometheus")
COLUMNS, HEIGHT = 3, 8
"""Number of panels next to one another, and height of each, in Grafana's grid, which is 24 wide."""


def file_of(drawn: Dashboard) -> str:
    """Return a dashboard's JSON, as Grafana provisions it."""
    builder = (
        dashboard.Dashboard(drawn.title)
        .uid(f"estate-{drawn.name}")
        .tags(["estate"])
        .refresh("30s")
        .time("now-30m", "now")
        .timezone("browser")
        .readonly()
    )
    for row in drawn.rows:
        if row.title:
            builder = builder.with_row(dashboard.Row(row.title))
        for panel in row.panels:
            builder = builder.with_panel(picture(panel))
    return JSONEncoder(sort_keys=True).encode(builder.build())


def picture(panel: Panel) -> timeseries.Panel:
    """Return one panel: lines from zero, or stacked areas."""
    builder = (
        timeseries.Panel()
        .title(panel.title)
        .unit(panel.unit)
        .datasource(SOURCE)
        .span(24 // COLUMNS)
        .height(HEIGHT)
        .min(0)
        .line_width(2)
        .fill_opacity(30 if panel.stacked else 0)
        .legend(
            common.VizLegendOptions()
            .show_legend(show_legend=True)
            .display_mode(LegendDisplayMode.LIST)
            .placement(LegendPlacement.BOTTOM)
        )
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING))
    )
    if panel.stacked:
        builder = builder.stacking(common.StackingConfig().mode(StackingMode.NORMAL))
    for reference, query in zip(ascii_uppercase, panel.queries, strict=False):
        target = prometheus.Dataquery().ref_id(reference).datasource(SOURCE)
        target = target.expr(query.expression).legend_format(query.legend)
        builder = builder.with_target(target)
    return builder
