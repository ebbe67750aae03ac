"""Compose api-gateway from its parts, and run it."""

import os
import socket
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import RedirectResponse
from servicekit import endpoints, logs, metrics, problems, routing
from servicekit.bodies import Bounded, Head
from servicekit.following import Followed
from servicekit.health import Check, Health
from servicekit.observation import Observed, identify
from servicekit.registration import Registration
from servicekit.serving import serve
from servicekit.settings import SettingsError, load_or_exit, refuse
from servicekit.tokens import Verifier
from servicekit.tracing import spans

from api_gateway import documentation, issuing
from api_gateway.directory import Directory
from api_gateway.forwarded import Peers
from api_gateway.limits import RateLimits
from api_gateway.proxy import Proxy
from api_gateway.settings import GatewaySettings


def create_app(settings: GatewaySettings, registration: Registration) -> Proxy:
    """Return the app, which opens its dependencies when it starts.

    Raises:
        SettingsError: the routes, the keys of tokens or the clients are invalid.
    """
    directory = Directory(settings.routes.file, settings.service.registry)
    verifier, limits, peers = Verifier(settings.auth), RateLimits(settings.cache), Peers(settings.routes.networks())

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        await directory.start()
        verifier.start()
        await limits.start()
        await proxy.open()
        yield
        await proxy.close()
        await limits.stop()
        await verifier.stop()
        await directory.stop()

    own = routing.app("api-gateway", lifespan)
    problems.handle(own)
    vital: dict[str, Check] = {"discovery": directory.consul_answers, "registry": registration.check}
    others: dict[str, Check] = {
        "instances": directory.instances_are_known,
        "routes": directory.routes_are_current,
        "keys": verifier.check,
    }

    def upstreams() -> dict[str, Any]:
        return {"upstreams": {name: service.described() for name, service in directory.services.items()}}

    async def operators(request: Request) -> None:
        """Refuse requests through the Ingress without a valid token; requests from inside the cluster need none."""
        if peers.trusted(request.scope):
            identify(request.scope, await verifier.authenticate(request.headers.get("authorization")))

    health = Health(vital | others)
    routing.add(own, endpoints.router(health, ("instances",), tuple(vital), upstreams, operators))
    own.add_api_route("/", to_the_page, include_in_schema=False)
    if settings.clients.file:
        clients = Followed("clients.file", settings.clients.file, issuing.parse_clients)
        routing.add(own, issuing.router(issuing.Issuer(settings.auth, verifier, clients), limits, peers))
    routing.add(own, documentation.router(own, directory))
    proxy = Proxy(Head(Bounded(own, settings.server.body_limit_bytes)), directory, verifier, peers, limits)
    return proxy


async def to_the_page() -> RedirectResponse:
    """Redirect to the page of the API with a relative reference, since the client chooses the Host header."""
    return RedirectResponse("docs")


def main() -> None:
    """Run the gateway."""
    settings = load_or_exit(GatewaySettings, os.environ, sys.argv[1:])
    name, port = settings.service.name, settings.server.port
    logs.configure(name)
    metrics.tell_version(name)
    registration = Registration(settings.service.registry, name, socket.gethostname(), settings.service.address, port)
    try:
        proxy = create_app(settings, registration)
    except (SettingsError, ValueError) as error:
        refuse(SettingsError(str(error)))
    observed = Observed(proxy, name, client=proxy.peers.address, spans=spans(name, settings.tracing))
    serve(observed, settings.server.host, port, join=registration.start, leave=registration.stop)
