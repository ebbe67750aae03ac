"""Puts user-service together."""

import os
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from servicekit import endpoints, logs, problems
from servicekit.health import Health
from servicekit.observation import Observed
from servicekit.registration import Registration
from servicekit.serving import serve
from servicekit.settings import load_or_exit

from user_service import users
from user_service.database import Postgres
from user_service.settings import UserSettings


def create_app(database: Postgres, registration: Registration) -> FastAPI:
    """The app, on a database and a registration that are opened when it starts."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        await database.open()
        await registration.start()
        yield
        await database.close()

    app = FastAPI(title="user-service", version="1", lifespan=lifespan)
    problems.handle(app)
    health = Health({"database": database.ping, "registration": registration.check})
    app.include_router(endpoints.router(health, ready=("database",)))
    routes = users.router(users.Users(database))
    app.include_router(routes, prefix="/api/v1/users")
    app.include_router(routes, prefix="/users", include_in_schema=False)
    return app


def main() -> None:
    """Run the service."""
    settings = load_or_exit(UserSettings, os.environ)
    logs.configure(settings.service.name)
    port = settings.server.port
    name = settings.service.name
    registration = Registration(
        settings.service.registry.address, name, socket.gethostname(), settings.service.address, port
    )
    app = create_app(Postgres(settings.database), registration)
    # Only the gateway reaches the service, so the request id that it sends is taken over.
    observed = Observed(app, name, trust_request_id=True)
    serve(observed, settings.server.host, port, leave=registration.stop)
