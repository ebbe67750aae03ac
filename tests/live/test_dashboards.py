"""Dashboards and status of the running estate: every panel has data, and the page is valid."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, sync_playwright

from estate.report.dashboard import CHROMIUM, Drawer, write
from estate.report.metrics import Metrics, metrics
from estate.report.status import Status, slos
from estate.stack.model import Stack, load
from infra.dashboards.catalogue import dashboards
from infra.dashboards.panels import Panel
from infra.services import NAMES
from tests.support.running import STACK, create, eventually
from tests.support.stacks import estate

MINUTES = 5
PANELS = {
    f"{shown.title}, {row.title}, {panel.title}": panel
    for shown in dashboards(slos(load(STACK)))
    for row in shown.rows
    for panel in row.panels
}


@pytest.fixture(scope="module")
def prometheus(stack: Stack) -> Iterator[Metrics]:
    with metrics(stack) as found:
        yield found


@pytest.fixture
def traffic(client: httpx.Client, new_user: dict[str, Any], prometheus: Metrics) -> None:
    """Send requests of clients until the panels that are last to have data show them."""
    user = create(client, new_user)
    last = [panel for name, panel in PANELS.items() if "Latency" in name or name.startswith("Objectives")]

    def seen() -> bool:
        assert client.get(f"/api/v1/users/{user['id']}").status_code == 200
        drawer = Drawer(prometheus, MINUTES)
        return all(shows(drawer, panel) for panel in last)

    eventually(seen, "requests in Prometheus", 120)


def shows(drawer: Drawer, panel: Panel) -> bool:
    """Return whether each of a panel's queries has a series."""
    return all(drawer.series(Panel(panel.title, panel.unit, (query,))) for query in panel.queries)


@pytest.mark.usefixtures("traffic")
def test_every_panel_has_something_to_show(prometheus: Metrics) -> None:
    drawer = Drawer(prometheus, MINUTES)
    assert [name for name, panel in PANELS.items() if not shows(drawer, panel)] == []


@pytest.fixture
def page() -> Iterator[Page]:
    """Yield a browser page without a network."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--host-resolver-rules=MAP * ~NOTFOUND"])
        yield browser.new_page()
        browser.close()


@pytest.mark.usefixtures("traffic")
def test_the_page_shows_every_panel_and_loads_nothing(stack: Stack, page: Page, tmp_path: Path) -> None:
    write(stack, MINUTES, tmp_path / "page.html")
    complaints: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto((tmp_path / "page.html").as_uri())

    assert page.locator("figure").count() == len(PANELS)
    assert page.locator("figure .none").count() == 0
    assert page.locator("figure > svg").count() == len(PANELS)
    # Whatever the window's width, nothing is wider than the window.
    for width in (1440, 800, 390):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("h1").inner_text() == f"Estate {stack.name}"
    assert asked == [(tmp_path / "page.html").as_uri()]
    assert complaints == []


def test_status_as_json_says_what_runs() -> None:
    done = estate("status", "--json", stack=STACK)
    found = Status.model_validate(json.loads(done.stdout))
    assert {workload.name for workload in found.workloads} >= {*NAMES, "consul", "postgres", "prometheus", "redis"}
    assert found.unanswered is None
    assert (done.returncode == 0) == found.healthy, done.stdout


def test_status_is_one_screen() -> None:
    done = estate("status", stack=STACK)
    lines = done.stdout.splitlines()
    assert len(lines) < 40
    assert any(line.split()[1:3] == ["postgres", "1/1"] for line in lines), done.stdout
