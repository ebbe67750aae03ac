"""Gateways under comparison, and their upstreams."""

import json
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path

from bench.__main__ import BINARIES

UPSTREAM_PORT, CONSUL_PORT, SINK_PORT, REDIS_PORT = 9300, 9310, 9320, 9330
GATEWAY, OFF, NGINX = (
    "api-gateway, every feature on",
    "api-gateway, no token, no limit",
    "nginx proxy_pass, keep-alive",
)
PATH, LARGE_PATH, SINK_PATH = "/api/v1/users/1", "/api/v1/users/large", "/api/v1/sink"
BODY = '{"id":1,"name":"Ada Lovelace","email":"ada@example.com","age":36}'
LARGE_MB, MB = 100, 10**6


@dataclass(frozen=True, eq=False)
class Peer:
    """A gateway under comparison."""

    name: str
    port: int
    command: list[str]
    environment: dict[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True)
class Service:
    """A service in the Consul stand-in."""

    name: str
    prefix: str
    port: int


SERVICES = (Service("user-service", "/api/v1/users", UPSTREAM_PORT), Service("sink", SINK_PATH, SINK_PORT))


def peers(folder: Path, keys: Path) -> list[Peer]:
    """Return all gateways to compare, api-gateway first."""
    upstream = f"http://127.0.0.1:{UPSTREAM_PORT}"
    ours = [sys.executable, "-m", "api_gateway"]
    go = [str(BINARIES / "gateway")]
    return [
        Peer(GATEWAY, 9401, ours, every_feature(folder, keys, 9401)),
        Peer(OFF, 9402, ours, gateway(folder, keys, 9402, {"auth": "none"})),
        Peer(NGINX, 9403, nginx(folder, "proxy", nginx_proxy(9403))),
        Peer("haproxy, one thread", 9404, haproxy(folder, 9404)),
        Peer("fabio 1.6.3, GOMAXPROCS=1", 9405, fabio(9405, 9505), {"GOMAXPROCS": "1"}),
        Peer("Go ReverseProxy of a tutorial", 9406, go, {"LISTEN": "127.0.0.1:9406", "UPSTREAM": upstream}),
        Peer(
            "Go ReverseProxy, tuned, GOMAXPROCS=1",
            9407,
            go,
            {"LISTEN": "127.0.0.1:9407", "UPSTREAM": upstream, "TUNED": "1", "GOMAXPROCS": "1"},
        ),
        Peer(
            "FastAPI + httpx",
            9408,
            [sys.executable, "-m", "bench.naive_gateway"],
            {"PORT": "9408", "UPSTREAM": upstream},
        ),
    ]


def every_feature(folder: Path, keys: Path, port: int) -> dict[str, str]:
    """Return the environment of the gateway with every feature on: turn on each new feature here."""
    route: dict[str, object] = {"auth": "required", "rate_limit": {"requests": 10**9, "per_s": 60}}
    environment = {"APP_CACHE_HOST": "127.0.0.1", "APP_CACHE_PORT": str(REDIS_PORT)}
    return gateway(folder, keys, port, route) | environment


def gateway(folder: Path, keys: Path, port: int, route: dict[str, object]) -> dict[str, str]:
    """Write the gateway's routes, each with the keys of `route`, and return its environment."""
    file = folder / f"routes-{port}.json"
    file.write_text(json.dumps({"routes": [{"prefix": s.prefix, "service": s.name} | route for s in SERVICES]}))
    return {
        "APP_SERVER_HOST": "127.0.0.1",
        "APP_SERVER_PORT": str(port),
        "APP_ROUTES_FILE": str(file),
        "APP_AUTH_KEYS_FILE": str(keys),
        "APP_SERVICE_REGISTRY_ADDRESS": f"127.0.0.1:{CONSUL_PORT}",
    }


def nginx(folder: Path, name: str, server: str) -> list[str]:
    """Return the command of an nginx with one server block."""
    file = folder / f"{name}.conf"
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    file.write_text(
        f"worker_processes 1; daemon off; master_process off; error_log stderr; pid {folder}/{name}.pid;\n"
        f"events {{ worker_connections 1024; }}\n"
        f"http {{ access_log off; {temporary} keepalive_requests 100000000;\n{server} }}\n"
    )
    return [shutil.which("nginx") or "nginx", "-p", str(folder), "-c", str(file)]


def nginx_proxy(port: int) -> str:
    """Return an nginx server block that forwards and streams bodies, as the gateway does, without spooling them to disk.

    nginx's default buffers, of one page, would halve its speed with large bodies.
    """
    upstreams = "".join(
        f"upstream {s.name} {{ server 127.0.0.1:{s.port}; keepalive 64; keepalive_requests 100000000; }}\n"
        for s in SERVICES
    )
    locations = "".join(f"location {s.prefix} {{ proxy_pass http://{s.name}; }}\n" for s in SERVICES)
    return (
        f'{upstreams} server {{ listen 127.0.0.1:{port}; proxy_http_version 1.1; proxy_set_header Connection "";'
        f" client_max_body_size 0; proxy_request_buffering off; proxy_max_temp_file_size 0;"
        f" proxy_buffers 8 64k; client_body_buffer_size 256k;\n{locations} }}"
    )


def haproxy(folder: Path, port: int) -> list[str]:
    """Return the command of an haproxy that forwards."""
    file = folder / "haproxy.cfg"
    file.write_text(
        "global\n nbthread 1\ndefaults\n mode http\n timeout connect 1s\n timeout client 30s\n timeout server 30s\n"
        f"frontend f\n bind 127.0.0.1:{port}\n default_backend b\nbackend b\n server s 127.0.0.1:{UPSTREAM_PORT}\n"
    )
    return ["haproxy", "-db", "-f", str(file)]


def fabio(port: int, ui_port: int) -> list[str]:
    """Return the command of a fabio that finds its routes in Consul."""
    options = {
        "proxy.addr": f"127.0.0.1:{port}",
        "ui.addr": f"127.0.0.1:{ui_port}",
        "registry.consul.addr": f"127.0.0.1:{CONSUL_PORT}",
        "registry.consul.register.enabled": "false",
        "registry.consul.pollinterval": "1s",  # the stand-in answers a blocking query at once
    }
    return [str(BINARIES / "fabio"), "-insecure", *(f"-{name}={value}" for name, value in options.items())]


def answering(folder: Path) -> list[str]:
    """Return the command of the upstream: it answers as user-service would, and as Consul would to service discovery requests."""
    with (folder / "large").open("wb") as file:
        file.truncate(LARGE_MB * MB)
    return nginx(
        folder,
        "upstream",
        f"sendfile on; server {{ listen 127.0.0.1:{UPSTREAM_PORT}; default_type application/json;"
        f" location / {{ return 200 '{BODY}'; }} location = {LARGE_PATH} {{ alias {folder}/large; }} }}\n{consul()}",
    )


def consul() -> str:
    """Return an nginx server block that answers the Consul requests of the gateway and fabio."""
    checks = [
        {
            "Node": "n",
            "CheckID": f"service:{s.name}",
            "Status": "passing",
            "ServiceID": s.name,
            "ServiceName": s.name,
        }
        for s in SERVICES
    ]
    answers: dict[str, object] = {
        "/v1/agent/self": {"Config": {"Datacenter": "dc1"}},
        "/v1/health/state/any": checks,
    }
    for s in SERVICES:
        answers[f"/v1/health/service/{s.name}"] = [
            {
                "Node": {"Address": "127.0.0.1"},
                "Service": {"ID": s.name, "Address": "127.0.0.1", "Port": s.port},
                "Checks": [],
            }
        ]
        answers[f"/v1/catalog/service/{s.name}"] = [
            {
                "Node": "n",
                "ServiceID": s.name,
                "ServiceName": s.name,
                "ServiceAddress": "127.0.0.1",
                "ServicePort": s.port,
                "ServiceTags": [f"urlprefix-{s.prefix}"],
            }
        ]
    locations = "".join(
        f"location = {path} {{ return 200 '{json.dumps(answer)}'; }}\n" for path, answer in answers.items()
    )
    # After an empty list of keys fabio would poll again at once, on the measured core; after an error it waits a second.
    return (
        f"server {{ listen 127.0.0.1:{CONSUL_PORT}; default_type application/json; add_header X-Consul-Index 1;"
        f" location / {{ return 200 '{{}}'; }} location /v1/kv/ {{ return 500; }}\n{locations} }}"
    )
