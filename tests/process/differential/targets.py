"""The proxies under test: the gateway, the Ingress controller in front of a gateway, and two references, each before a recorder."""

import asyncio
import json
import os
import socket
import ssl
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

import trustme
import yaml

from estate.core.paths import PROJECT
from estate.tools.build import load
from estate.tools.debian_programs import debian_programs
from tests.process.differential.recorder import Recorder
from tests.process.differential.registry import Registry

SERVICE = "recorder"
TIMEOUT_S = 6
"""Upstream timeout of every proxy, in seconds; generous, for a machine that is busy."""
START_S = 60.0
HTTPS_PORT = 8443
"""Port at which clients reach the Ingress, wherever it listens here."""
GATEWAY, INGRESS, NGINX, HAPROXY = "gateway", "ingress", "nginx", "haproxy"
OURS = (GATEWAY, INGRESS)
REFERENCES = (NGINX, HAPROXY)


@dataclass(frozen=True)
class Target:
    """A proxy, and the recorder that it forwards to."""

    name: str
    port: int
    recorder: Recorder
    trust: ssl.SSLContext | None = None
    """TLS context that verifies its certificate, for a proxy that speaks TLS alone."""

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a client's connection."""
        name = "api.test" if self.trust else None
        return await asyncio.open_connection("127.0.0.1", self.port, ssl=self.trust, server_hostname=name)


class NotBuiltError(Exception):
    """Error for a program that the lane needs and that is not built."""


@asynccontextmanager
async def targets(names: tuple[str, ...]) -> AsyncGenerator[dict[str, Target]]:
    """Start proxies; stop them at the end of the context."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="differential-")))
        for name in names:
            (folder / name).mkdir()
        starting = {name: STARTS[name](stack, folder / name) for name in names}
        yield dict(zip(starting, await asyncio.gather(*starting.values()), strict=True))


async def start_gateway(stack: AsyncExitStack, folder: Path, *, trusted: str = "") -> Target:
    """Start a gateway of ours, with a route that any client may use."""
    recorder, upstream = await start_recorder(stack)
    registry = Registry(SERVICE, upstream)
    registry_port = await registry.start()
    stack.push_async_callback(registry.stop)
    routes = folder / "routes.json"
    route = {"prefix": "/s", "service": SERVICE, "auth": "none", "timeout_s": TIMEOUT_S}
    routes.write_text(json.dumps({"routes": [route]}))
    port = free_port()
    environment = {
        "APP_SERVER_HOST": "127.0.0.1",
        "APP_SERVER_PORT": str(port),
        "APP_ROUTES_FILE": str(routes),
        "APP_ROUTES_TRUSTED": trusted,
        "APP_AUTH_REQUIRED": "false",
        "APP_SERVICE_REGISTRY_ADDRESS": f"127.0.0.1:{registry_port}",
    }
    await run(stack, [sys.executable, "-m", "api_gateway"], folder, environment)
    return await reached(Target(GATEWAY, port, recorder))


async def start_ingress(stack: AsyncExitStack, folder: Path) -> Target:
    """Start the Ingress controller, with its arguments in the cluster, in front of a gateway that trusts it."""
    tool = next(tool for tool in load()[0] if tool.name == "skipper")
    skipper = tool.folder / "skipper"
    if not skipper.exists():
        raise NotBuiltError("the Ingress controller is not built: estate tools build")
    gateway = await start_gateway(stack, folder, trusted="127.0.0.0/8")
    port, support = free_port(), free_port()
    authority = trustme.CA()
    authority.issue_cert("api.test").private_key_and_cert_chain_pem.write_to_path(str(folder / "tls.pem"))
    trust = ssl.create_default_context(cadata=authority.cert_pem.bytes().decode())
    # The route that Skipper makes of an Ingress with a host.
    match = 'Host("^(api[.]test[.]?(:[0-9]+)?)$") && PathSubtree("/")'
    routes = f'gateway: {match} -> "http://127.0.0.1:{gateway.port}";'
    own = (
        f"-address=127.0.0.1:{port}",
        f"-support-listener=127.0.0.1:{support}",
        f"-inline-routes={routes}",
        f"-tls-cert={folder}/tls.pem",
        f"-tls-key={folder}/tls.pem",
    )
    await run(stack, [str(skipper), *ingress_arguments(), *own], folder, {})
    return await reached(Target(INGRESS, port, gateway.recorder, trust))


def ingress_arguments() -> list[str]:
    """Return the controller's arguments in the cluster, without those for addresses, certificates, and the cluster as the source of routes."""
    text = (PROJECT / "estate/cluster/addons/ingress.yaml").read_text()
    documents: list[Any] = list(yaml.safe_load_all(Template(text).safe_substitute(https_port=HTTPS_PORT)))
    daemons = next(d for d in documents if d["kind"] == "DaemonSet" and d["metadata"]["name"] == "skipper")
    arguments: list[str] = daemons["spec"]["template"]["spec"]["containers"][0]["args"]
    elsewhere = ("-kubernetes", "-address", "-insecure-address", "-support-listener", "-tls-")
    return [argument for argument in arguments if not argument.startswith(elsewhere)]


async def start_nginx(stack: AsyncExitStack, folder: Path) -> Target:
    """Start nginx, which forwards bodies as they arrive over kept connections, as the gateway does."""
    recorder, upstream = await start_recorder(stack)
    port = free_port()
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"""worker_processes 1; daemon off; master_process off; error_log {folder}/error.log; pid {folder}/pid;
        events {{ worker_connections 1024; }}
        http {{ access_log off; {temporary}
          upstream recorder {{ server 127.0.0.1:{upstream} max_fails=0; keepalive 16; }}
          server {{ listen 127.0.0.1:{port};
            location / {{ proxy_pass http://recorder; proxy_http_version 1.1; proxy_set_header Connection "";
              proxy_set_header Host $http_host; proxy_request_buffering off; proxy_read_timeout {TIMEOUT_S}s;
              proxy_next_upstream off; client_max_body_size 0; }} }} }}"""
    )
    programs = debian_programs()
    command = programs.command("nginx", "-p", f"{folder}", "-c", f"{folder}/nginx.conf", "-e", f"{folder}/error.log")
    await run(stack, command, folder, programs.environment)
    return await reached(Target(NGINX, port, recorder))


async def start_haproxy(stack: AsyncExitStack, folder: Path) -> Target:
    """Start haproxy, which shares connections to the service among clients, as the gateway does."""
    recorder, upstream = await start_recorder(stack)
    port = free_port()
    (folder / "haproxy.cfg").write_text(
        f"""
global
  nbthread 1
defaults
  mode http
  retries 0
  http-reuse always
  timeout connect {TIMEOUT_S}s
  timeout client 30s
  timeout server {TIMEOUT_S}s
frontend f
  bind 127.0.0.1:{port}
  default_backend b
backend b
  server s 127.0.0.1:{upstream}
"""
    )
    programs = debian_programs()
    await run(stack, programs.command("haproxy", "-db", "-f", f"{folder}/haproxy.cfg"), folder, programs.environment)
    return await reached(Target(HAPROXY, port, recorder))


STARTS: dict[str, Callable[[AsyncExitStack, Path], Any]] = {
    GATEWAY: start_gateway,
    INGRESS: start_ingress,
    NGINX: start_nginx,
    HAPROXY: start_haproxy,
}


async def start_recorder(stack: AsyncExitStack) -> tuple[Recorder, int]:
    """Start a recorder; return it and its port."""
    recorder = Recorder()
    port = await recorder.start()
    stack.push_async_callback(recorder.stop)
    return recorder, port


async def run(stack: AsyncExitStack, command: list[str], folder: Path, environment: dict[str, str]) -> None:
    """Run a program until the context ends; its output is in the folder."""
    log = stack.enter_context((folder / f"{Path(command[0]).name}.log").open("wb"))
    process = await asyncio.create_subprocess_exec(
        *command, env=os.environ | environment, cwd=folder, stdout=log, stderr=subprocess.STDOUT
    )

    async def end() -> None:
        if process.returncode is None:
            process.kill()
            await process.wait()

    stack.push_async_callback(end)


async def reached(target: Target) -> Target:
    """Return a target once it forwards."""
    async with asyncio.timeout(START_S):
        while not await forwards(target):  # noqa: ASYNC110 - it is another process
            await asyncio.sleep(0.05)
    return target


async def forwards(target: Target) -> bool:
    """Return whether a request reaches the service."""
    try:
        reader, writer = await target.connect()
    except OSError:
        return False
    try:
        writer.write(b"GET /s/canary/start HTTP/1.1\r\nHost: api.test\r\nConnection: close\r\n\r\n")
        return (await reader.read()).startswith(b"HTTP/1.1 200")
    except OSError:
        return False
    finally:
        writer.close()


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
