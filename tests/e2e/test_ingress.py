"""What comes in over one connection of the Ingress is told apart."""

import http.client
import socket
import ssl
import time
from urllib.parse import urlsplit

from toolchain.cluster import layout

USERS = "/api/v1/users"
LATE_S = 0.2
"""Longer than Go's transport waits for the end of a request that was answered before it (maxWriteWaitBeforeConnReuse)."""


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
        connection.putrequest("POST", USERS)  # without a token, so that nobody waits for the body
        connection.putheader("Content-Length", str(len(smuggled)))
        connection.endheaders()
        time.sleep(LATE_S)
        connection.send(smuggled)
        with connection.getresponse() as refused:
            assert (refused.status, len(refused.read()) > 0) == (401, True)
        connection.request("GET", f"{USERS}?limit=1", headers={"Authorization": f"Bearer {token}"})
        with connection.getresponse() as answer:
            assert answer.status == 200, answer.read()
