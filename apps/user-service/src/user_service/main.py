"""Compose user-service from its parts, and run it."""

import asyncio
import logging
import os
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial

from fastapi import FastAPI
from servicekit import background, endpoints, openapi, problems, routing
from servicekit.health import Health
from servicekit.postgres import Postgres
from servicekit.problems import Problem
from servicekit.registration import Registration
from servicekit.running import run
from servicekit.settings import SettingsError, load_or_exit, refuse
from servicekit.tokens import Verifier

from user_service import documents, v1, v2
from user_service.cache import Cache
from user_service.settings import UserSettings
from user_service.users import Users

log = logging.getLogger(__name__)
TIDY_EVERY_S = 3600


def create_app(users: Users, registration: Registration, verifier: Verifier) -> FastAPI:
    """Return the app, which opens its users when it starts, and asks the registration for its health."""
    database, cache = users.database, users.cache

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        await database.open()
        await cache.open()
        verifier.start()
        tidying = background.start("tidying", partial(tidy, users))
        yield
        await background.end(tidying)
        await verifier.stop()
        await cache.close()
        await database.close()

    app = routing.app("user-service", lifespan)
    app.state.verifier = verifier
    problems.handle(app)
    for routes in (v1.router(users), v2.router(users), v1.router(users, "/users", documented=False)):
        routing.add(app, routes)
    health = Health(
        {"database": database.ping, "registry": registration.check, "cache": cache.ping, "keys": verifier.check}
    )
    routing.add(app, endpoints.router(health, ready=("database",), vital=("database", "registry")))

    of_version = {
        f"/openapi/{version}.json": partial(documents.document, app, version) for version in documents.VERSIONS
    }
    routing.add(app, openapi.router(of_version))
    return app


async def tidy(users: Users) -> None:
    """Delete expired Idempotency-Keys periodically."""
    while True:
        await asyncio.sleep(TIDY_EVERY_S)
        try:
            await users.forget_keys()
        except Problem as problem:
            log.warning("Could not tidy up; the next time will", extra={"reason": problem.detail})


def main() -> None:
    """Run the service."""
    settings = load_or_exit(UserSettings, os.environ, sys.argv[1:])
    try:
        database = Postgres(settings.service.name, settings.database)
    except SettingsError as error:
        refuse(error)
    run(settings, partial(create_app, Users(database, Cache(settings.cache, database))))
