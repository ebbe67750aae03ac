"""Puts api-gateway together."""

import os
import socket
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from servicekit import endpoints, logs, problems, routing
from servicekit.health import Check, Health
from servicekit.observation import Observed
from servicekit.registration import Registration
from servicekit.serving import serve
from servicekit.settings import load_or_exit

from api_gateway import routes
from api_gateway.discovery import Discovery
from api_gateway.proxy import Proxy
from api_gateway.settings import GatewaySettings


def create_app(agent: str, registration: Registration) -> Proxy:
    """The app, on a Consul agent and a registration that are used from when it starts."""
    discoveries = {service: Discovery(agent, service) for service in {route.service for route in routes.ROUTES}}

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        await proxy.open()
        for discovery in discoveries.values():
            await discovery.start()
        yield
        for discovery in discoveries.values():
            await discovery.stop()
        await proxy.close()

    own = routing.app("api-gateway", lifespan)
    problems.handle(own)
    checks: dict[str, Check] = {
        f"discovery of {service}": discovery.check for service, discovery in discoveries.items()
    }
    checks["registration"] = registration.check
    vital = tuple(checks)
    known: dict[str, Check] = {
        f"first list of {service}": discovery.known for service, discovery in discoveries.items()
    }
    routing.add(own, endpoints.router(Health(checks | known), ready=tuple(known), vital=vital))
    proxy = Proxy(own, discoveries)
    return proxy


def main() -> None:
    """Run the gateway."""
    settings = load_or_exit(GatewaySettings, os.environ, sys.argv[1:])
    logs.configure(settings.service.name)
    port, name, agent = settings.server.port, settings.service.name, settings.service.registry.address
    registration = Registration(agent, name, socket.gethostname(), settings.service.address, port)
    observed = Observed(create_app(agent, registration), name, trust_request_id=False)
    serve(observed, settings.server.host, port, join=registration.start, leave=registration.stop)
