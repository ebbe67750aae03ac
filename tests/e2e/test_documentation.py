"""The page of the API, in a real browser."""

import base64
import hashlib
import socket
import ssl
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from playwright.sync_api import Page, sync_playwright

from toolchain.cluster import layout

CHROMIUM = "/usr/bin/chromium"
OPERATIONS = {"/api/v1/users", "/api/v1/users/{user_id}", "/api/v2/users", "/api/v2/users/{user_id}", "/auth/token"}


def key_of(url: str) -> str:
    """Hash of the Ingress's public key, once its certificate has been found to be right by the estate's CA."""
    at = urlsplit(url)
    trust = ssl.create_default_context(cafile=str(layout.CA_CERTIFICATE))
    with (
        socket.create_connection(("127.0.0.1", at.port or 443), 10) as raw,
        trust.wrap_socket(raw, server_hostname=at.hostname) as tls,
    ):
        certificate = x509.load_der_x509_certificate(tls.getpeercert(binary_form=True) or b"")
    key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(hashlib.sha256(key).digest()).decode()


@pytest.fixture
def page(urls: dict[str, str]) -> Iterator[Page]:
    """A page of a browser that knows the estate's host and its key, and no other host."""
    host = urlsplit(urls["gateway"]).hostname
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=[
                f"--host-resolver-rules=MAP {host} 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
                f"--ignore-certificate-errors-spki-list={key_of(urls['gateway'])}",
            ],
        )
        yield browser.new_page()
        browser.close()


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
