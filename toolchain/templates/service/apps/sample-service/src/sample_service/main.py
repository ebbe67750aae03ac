"""Puts sample-service together."""

import os
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial

from fastapi import FastAPI
from servicekit import endpoints, openapi, problems, routing
from servicekit.health import Health
from servicekit.registration import Registration
from servicekit.running import run
from servicekit.settings import load_or_exit
from servicekit.tokens import Verifier

from sample_service import v1
from sample_service.settings import SampleServiceSettings


def create_app(registration: Registration, verifier: Verifier) -> FastAPI:
    """The app, with a registration that is asked for its health."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        verifier.start()
        yield
        await verifier.stop()

    app = routing.app("sample-service", lifespan)
    app.state.verifier = verifier
    problems.handle(app)
    routing.add(app, v1.router())
    health = Health({"registry": registration.check, "keys": verifier.check})
    routing.add(app, endpoints.router(health, ready=(), vital=("registry",)))
    document = partial(openapi.document, app, "sample-service", "1", "/api/v1/")
    routing.add(app, openapi.router({"/openapi/v1.json": document}))
    return app


def main() -> None:
    """Run the service."""
    run(load_or_exit(SampleServiceSettings, os.environ, sys.argv[1:]), create_app)
