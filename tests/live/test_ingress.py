"""The Ingress: the client of a request, the targets of links, and the requests on one connection."""

import http.client
import itertools
import socket
import ssl
import time
from urllib.parse import urlsplit

import httpx
from playwright.sync_api import Page, expect

from estate.cluster import layout
from estate.stack.model import Stack
from tests.support.running import connect, eventually
from tests.support.stacks import estate

USERS = "/api/v1/users"
GUESSER, NEIGHBOUR = "127.0.0.77", "127.0.0.78"
"""Addresses of clients; all of 127.0.0.0/8 is this machine."""
LATE_S = 0.2
"""Seconds that exceed the wait of Go's transport for the end of a request that was answered early (maxWriteWaitBeforeConnReuse)."""


def test_a_body_that_comes_after_its_answer_is_not_read_as_the_next_request(urls: dict[str, str], token: str) -> None:
    url = urlsplit(urls["gateway"])
    assert url.hostname
    trust = ssl.create_default_context(cafile=str(layout.CA_CERTIFICATE))
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=10)
    with (
        socket.create_connection(("127.0.0.1", url.port)) as plain,
        trust.wrap_socket(plain, server_hostname=url.hostname) as connection.sock,
    ):
        smuggled = b"GET /smuggled HTTP/1.1\r\nHost: elsewhere\r\n\r\n"
        connection.putrequest("POST", USERS)  # without a token, so that the gateway does not wait for the body
        connection.putheader("Content-Length", str(len(smuggled)))
        connection.endheaders()
        time.sleep(LATE_S)
        connection.send(smuggled)
        with connection.getresponse() as refused:
            assert (refused.status, len(refused.read()) > 0) == (401, True)
        connection.request("GET", f"{USERS}?limit=1", headers={"Authorization": f"Bearer {token}"})
        with connection.getresponse() as answer:
            assert answer.status == 200, answer.read()


def guess(url: str, address: str, claimed: str) -> int:
    """Return the status of a token request with a wrong secret and a forged address."""
    claims = {"X-Forwarded-For": claimed, "X-Real-IP": claimed, "True-Client-IP": claimed}
    with connect(url, address=address) as client:
        form = {"grant_type": "client_credentials"}
        answer = client.post("/auth/token", data=form, auth=("operator", "wrong"), headers=claims)
        return answer.status_code


def test_limits_go_by_the_address_that_a_client_has(urls: dict[str, str]) -> None:
    # The limit is 30 a minute; however the minutes lie, one of them gets more than that.
    made_up = [f"203.0.113.{number}" for number in range(70)]
    statuses = [guess(urls["gateway"], GUESSER, address) for address in made_up]
    assert 429 in statuses, statuses
    assert guess(urls["gateway"], NEIGHBOUR, made_up[0]) == 401


def test_logs_name_the_address_that_a_client_has(urls: dict[str, str], stack: Stack) -> None:
    with connect(urls["gateway"], address=NEIGHBOUR) as client:
        request = client.get(USERS, headers={"X-Forwarded-For": "203.0.113.7"}).headers["x-request-id"]

    def named() -> bool:
        said = estate("logs", "--request", request, stack=stack.name).stdout
        assert "203.0.113.7" not in said
        return f"remote={NEIGHBOUR}" in said

    eventually(named, "the client's address in the gateway's line", 20)


def test_no_host_answers_in_plain_text(urls: dict[str, str], token: str) -> None:
    for url, path in itertools.product(urls.values(), ("/", USERS, "/health?x=1")):
        host = urlsplit(url).hostname
        headers = {"Host": f"{host}:{layout.HTTP_PORT}", "Authorization": f"Bearer {token}"}
        answer = httpx.get(f"http://127.0.0.1:{layout.HTTP_PORT}{path}", headers=headers, timeout=10)
        assert (answer.status_code, answer.headers["location"]) == (308, f"{url}{path}")


def page_at(url: str) -> str:
    """Return the text of a page, after redirects within its host."""
    with connect(f"https://{urlsplit(url).netloc}") as client:
        client.follow_redirects = True
        answer = client.get(url)
    assert answer.status_code == 200, (url, answer.status_code, answer.text[:200])
    assert answer.headers["content-type"].startswith(("text/html", "text/plain")), url
    return answer.text


def test_every_url_that_is_printed_leads_to_a_page(urls: dict[str, str]) -> None:
    for url in urls.values():
        assert "<html" in page_at(url).lower(), url


def test_the_links_of_an_alert_open(urls: dict[str, str]) -> None:
    found: list[dict[str, str]] = []

    def fires() -> bool:
        with connect(urls["alertmanager"]) as alertmanager:
            alerts = alertmanager.get("/api/v2/alerts", params={"filter": 'alertname="Watchdog"'}).json()
        found[:] = [{"generator": alert["generatorURL"], **alert["annotations"]} for alert in alerts]
        return bool(found)

    eventually(fires, "the alert that always fires", 120)
    for links in found:
        assert links["generator"].startswith(f"{urls['prometheus']}/graph?g0.expr=")
        assert "<html" in page_at(links["generator"]).lower()
        assert page_at(links["runbook_url"]).startswith("# Watchdog\n")


def test_the_page_of_prometheus_shows_what_its_links_ask_for(page: Page, urls: dict[str, str]) -> None:
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(f"{urls['prometheus']}/graph?g0.expr=vector(1)%2Bvector(41)&g0.tab=1")
    expect(page.get_by_text("42", exact=True)).to_be_visible(timeout=30_000)
    for path, shown in {"alerts": "Watchdog", "rules": "ServiceDown", "targets": "user-service"}.items():
        page.goto(f"{urls['prometheus']}/{path}")
        expect(page.get_by_text(shown).first).to_be_visible(timeout=30_000)
    assert complaints == []
