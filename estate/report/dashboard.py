"""`estate dashboard`: write the dashboards of the last minutes as one HTML page, which needs neither Grafana nor a network."""

import os
import sys
import time
import webbrowser
from collections.abc import Iterator
from datetime import UTC, datetime
from html import escape
from pathlib import Path

from estate.core.console import EstateError, say, step
from estate.core.paths import PROJECT, write_whole
from estate.report.metrics import SCRAPED_S, Metrics, metrics, step_s
from estate.report.pictures import Series, colour, now, picture, series
from estate.report.status import Status, share, slos, status_of
from estate.stack.model import Stack, load
from estate.stack.target import target
from infra.dashboards.catalogue import dashboards
from infra.dashboards.panels import RATE, Dashboard, Panel

STYLE = Path(__file__).with_suffix(".css")
MINUTES = 30
SCRAPES_IN_A_RATE = 4
"""Scrapes in the window of a rate, as in Grafana: the rate stays correct if one scrape fails."""
CHROMIUM = "/usr/bin/chromium"
SIZE = {"width": 1440, "height": 1800}


class Drawer:
    """Renderer of panels over the same time range."""

    def __init__(self, prometheus: Metrics, minutes: int) -> None:
        self._prometheus = prometheus
        self._step = step_s(minutes)
        self.end = int(time.time()) // self._step * self._step
        self.start = self.end - minutes * 60 // self._step * self._step

    def series(self, panel: Panel) -> list[Series]:
        """Return all series of a panel."""
        window = f"{max(SCRAPES_IN_A_RATE * SCRAPED_S, self._step + SCRAPED_S)}s"
        return [
            found
            for query in panel.queries
            for result in self._prometheus.over(
                query.expression.replace(RATE, window), self.start, self.end, self._step
            )
            if (found := series(query.legend, result))
        ]

    def figure(self, panel: Panel) -> str:
        """Return a panel with its title and legend as HTML."""
        drawn = self.series(panel)
        title = escape(panel.title)
        if not drawn:
            return f'<figure class="card"><h4>{title}</h4><div class="none">no data</div></figure>'
        legend = "".join(
            f'<span><i style="background:{colour(number)}"></i>{escape(one.name)}<b>{now(one, self.end, panel.unit)}</b></span>'
            for number, one in enumerate(drawn)
        )
        svg = picture(panel, drawn, self.start, self.end, self._step)
        return f'<figure class="card"><h4>{title}</h4>{svg}<figcaption>{legend}</figcaption></figure>'


def page(status: Status, drawer: Drawer, shown: tuple[Dashboard, ...]) -> str:
    """Return the whole page as HTML."""
    health = "healthy" if status.healthy else "degraded"
    span = " to ".join(f"{datetime.fromtimestamp(at, UTC):%H:%M}" for at in (drawer.start, drawer.end))
    links = "".join(f'<a href="#{found.name}">{escape(found.title)}</a>' for found in shown)
    return "\n".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>Estate {escape(status.stack)}</title><style>{STYLE.read_text()}</style></head><body>",
            f'<header><h1>Estate {escape(status.stack)}</h1><span class="badge {"" if status.healthy else "ill"}">{health}</span>',
            f"<time>{status.at:%Y-%m-%d}, {span} UTC</time></header>",
            *tiles(status),
            *firing(status),
            f"<nav>{links}</nav>",
            *(part for found in shown for part in section(found, drawer)),
            "</body></html>\n",
        ]
    )


def tiles(status: Status) -> Iterator[str]:
    """Yield the HTML of the key figures at the top."""
    ready, desired = sum(w.ready for w in status.workloads), sum(w.desired for w in status.workloads)
    yield '<div class="tiles">'
    yield tile(f"{ready} / {desired}", "pods ready", well=all(workload.well for workload in status.workloads))
    yield tile("?" if status.unanswered else str(len(status.alerts)), "alerts that fire", well=not status.alerts)
    for found in status.objectives:
        what = f"{found.service}: {found.what}, {share(found.promised)} promised"
        yield tile(share(found.kept), f"{what}, budget left {share(found.budget_left, 2)}", well=found.well)
    yield "</div>"


def tile(value: str, name: str, *, well: bool) -> str:
    """Return the HTML of one key figure."""
    return f'<div class="card tile {"" if well else "ill"}"><b>{escape(value)}</b><span>{escape(name)}</span></div>'


def firing(status: Status) -> Iterator[str]:
    """Yield the HTML of the firing alerts."""
    if status.alerts:
        yield '<ul class="alerts">'
        for alert in status.alerts:
            yield f'<li><span class="{escape(alert.severity)}">{escape(alert.name)}</span> {escape(alert.summary)}</li>'
        yield "</ul>"


def section(shown: Dashboard, drawer: Drawer) -> Iterator[str]:
    """Yield the HTML of one dashboard."""
    yield f'<section id="{shown.name}"><h2>{escape(shown.title)}</h2>'
    for row in shown.rows:
        if row.title:
            yield f"<h3>{escape(row.title)}</h3>"
        yield '<div class="grid">'
        yield from (drawer.figure(panel) for panel in row.panels)
        yield "</div>"
    yield "</section>"


def write(stack: Stack, minutes: int, file: Path) -> None:
    """Write the page of a stack.

    Args:
        stack: the stack to show.
        minutes: the length of the time range that ends now.
        file: the path of the page.

    Raises:
        EstateError: the cluster or Prometheus does not answer.
    """
    status = status_of(stack)
    with metrics(stack) as prometheus:
        content = page(status, Drawer(prometheus, minutes), dashboards(slos(stack.settings)))
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, content)


def photograph(file: Path, png: Path) -> None:
    """Write the top of a page as a PNG, with the browser of the tests."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM)
        opened = browser.new_page(viewport={"width": SIZE["width"], "height": SIZE["height"]})
        opened.goto(file.as_uri())
        opened.screenshot(path=png)
        browser.close()


def show(name: str, minutes: int, png: Path | None) -> None:
    """Write the page of a stack, and open it in a browser, or write a picture of it.

    Args:
        name: the name of the stack.
        minutes: the minutes to show.
        png: the file of the picture.

    Raises:
        EstateError: a picture is wanted, and the browser is not installed; or the cluster or Prometheus does not answer.
    """
    file = PROJECT / "build" / f"dashboard-{name}.html"
    if png and not Path(CHROMIUM).exists():
        raise EstateError(f"{CHROMIUM} is not there: estate browser installs it, then the same command again")
    with step("pictures"):
        write(Stack(name, load(name), target()), minutes, file)
    say(f"{file}")
    if png:
        photograph(file, png)
        say(f"{png}")
    elif sys.platform == "darwin" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        webbrowser.open(file.as_uri())
