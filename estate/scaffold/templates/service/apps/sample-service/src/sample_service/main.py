"""Puts sample-service together."""

import os
import sys
from collections.abc import AsyncGenerator
#: calls
from collections.abc import Mapping
#: end
from contextlib import asynccontextmanager
from functools import partial

from fastapi import FastAPI
from servicekit import endpoints, openapi, problems, routing
#: calls
from servicekit.calling import Callee
#: end
from servicekit.health import Health
#: database
from servicekit.postgres import Postgres
#: end
from servicekit.registration import Registration
from servicekit.running import run
#: database
from servicekit.settings import SettingsError, refuse
#: end
from servicekit.settings import load_or_exit
from servicekit.tokens import Verifier

from sample_service import v1
#: database
from sample_service.items import Items
#: end
from sample_service.settings import SampleServiceSettings
#: calls
from sample_service.settings import SampleServiceCalls
#: end


def create_app(
    #: database
    items: Items,
    #: end
    #: calls
    callees: Mapping[str, Callee],
    #: end
    registration: Registration, verifier: Verifier
) -> FastAPI:
    """Return the app; its health includes that of its registration in Consul."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        #: database
        await items.database.open()
        #: end
        #: calls
        for callee in callees.values():
            await callee.open()
        #: end
        verifier.start()
        yield
        await verifier.stop()
        #: calls
        for callee in callees.values():
            await callee.close()
        #: end
        #: database
        await items.database.close()
        #: end

    app = routing.app("sample-service", lifespan)
    app.state.verifier = verifier
    problems.handle(app)
    routing.add(app, v1.router(
        #: database
        items,
        #: end
        #: calls
        callees,
        #: end
    ))
    #: database
    health = Health({"database": items.database.ping, "registry": registration.check, "keys": verifier.check})
    routing.add(app, endpoints.router(health, ready=("database",), vital=("database", "registry")))
    #: else
    health = Health({"registry": registration.check, "keys": verifier.check})
    routing.add(app, endpoints.router(health, ready=(), vital=("registry",)))
    #: end
    document = partial(openapi.document, app, "sample-service", "1", "/api/v1/")
    routing.add(app, openapi.router({"/openapi/v1.json": document}))
    return app


def main() -> None:
    """Run the service."""
    settings = load_or_exit(SampleServiceSettings, os.environ, sys.argv[1:])
    #: database
    try:
        database = Postgres(settings.service.name, settings.database)
    except SettingsError as error:
        refuse(error)
    #: end
    #: part
    run(settings, partial(create_app,
        #: database
        Items(database, settings.items),
        #: end
        #: calls
        called(settings.calls),
        #: end
    ))
    #: else
    run(settings, create_app)
    #: end
#: calls


def called(settings: SampleServiceCalls) -> dict[str, Callee]:
    """Return the services that this one calls, by their names."""
    return {
        #: each callee
        "callee-service": Callee("callee-service", settings.callee_service),
        #: end each
    }
#: end
