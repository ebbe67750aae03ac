"""Tests of the running estate, in any order; a browser for those of pages."""

import base64
import hashlib
import socket
import ssl
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from playwright.sync_api import Page, sync_playwright

from estate.cluster import layout
from tests.support.running import Kubectl, connect, eventually, settle

CHROMIUM = "/usr/bin/chromium"


def key_of(url: str) -> str:
    """Return the hash of the Ingress's public key, once the estate's CA has verified its certificate."""
    at = urlsplit(url)
    trust = ssl.create_default_context(cafile=str(layout.CA_CERTIFICATE))
    with (
        socket.create_connection(("127.0.0.1", at.port or 443), 10) as raw,
        trust.wrap_socket(raw, server_hostname=at.hostname) as tls,
    ):
        certificate = x509.load_der_x509_certificate(tls.getpeercert(binary_form=True) or b"")
    key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(hashlib.sha256(key).digest()).decode()


@pytest.fixture(scope="module", autouse=True)
def settled(kubectl: Kubectl, urls: dict[str, str], token: str) -> None:
    """Start each test with a healthy estate whose API answers."""
    settle(kubectl)
    with connect(urls["gateway"], token) as client:
        eventually(lambda: answers(client), "the API answers", 60)


def answers(client: httpx.Client) -> bool:
    """Return whether the API answers several times in a row, as each of its replicas has to."""
    try:
        return all(client.get("/api/v1/users", params={"limit": "1"}).status_code == 200 for _ in range(6))
    except httpx.TransportError:
        return False


@pytest.fixture
def page(urls: dict[str, str]) -> Iterator[Page]:
    """Yield a browser page that knows the estate's hosts and their key, and no other host."""
    hosts = ", ".join(f"MAP {urlsplit(url).hostname} 127.0.0.1" for url in urls.values())
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=[
                f"--host-resolver-rules={hosts}, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
                f"--ignore-certificate-errors-spki-list={key_of(urls['gateway'])}",
            ],
        )
        yield browser.new_page()
        browser.close()
