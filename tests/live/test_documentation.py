"""The page of the API documentation, in a real browser."""

from urllib.parse import urlsplit

from playwright.sync_api import Page

OPERATIONS = {"/api/v1/users", "/api/v1/users/{user_id}", "/api/v2/users", "/api/v2/users/{user_id}", "/auth/token"}


def test_the_page_shows_every_operation_and_tries_one(page: Page, urls: dict[str, str], token: str) -> None:
    complaints: list[str] = []
    hosts: set[str] = set()
    page.on("console", lambda m: complaints.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda r: hosts.add(urlsplit(r.url).netloc) if not r.url.startswith("data:") else None)

    page.goto(f"{urls['gateway']}/docs")
    page.locator(".opblock").first.wait_for()
    shown = page.locator(".opblock-summary-path").evaluate_all("found => found.map(one => one.dataset.path)")
    assert set(shown) >= OPERATIONS

    page.locator(".auth-wrapper").get_by_role("button", name="Authorize").click()
    dialog = page.locator(".modal-ux")
    dialog.get_by_label("auth-bearer-value").fill(token)
    dialog.get_by_role("button", name="Apply credentials").first.click()
    dialog.get_by_role("button", name="Close").last.click()
    listing = page.locator(".opblock-get", has=page.locator('[data-path="/api/v1/users"]'))
    listing.locator(".opblock-summary-control").click()
    listing.get_by_role("button", name="Try it out").click()
    listing.get_by_role("button", name="Execute").click()
    status = listing.locator(".live-responses-table .response .response-col_status")
    status.wait_for()
    assert status.inner_text().split()[0] == "200"

    assert hosts == {urlsplit(urls["gateway"]).netloc}
    assert complaints == []
