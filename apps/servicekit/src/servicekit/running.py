"""Start of every service behind the gateway."""

import socket
from collections.abc import Callable

from fastapi import FastAPI

from servicekit import logs, metrics
from servicekit.bodies import Bounded, Head
from servicekit.http1 import ServiceProtocol
from servicekit.observation import Observed
from servicekit.registration import Registration
from servicekit.serving import serve
from servicekit.settings import ServiceSettings, SettingsError, refuse
from servicekit.tokens import Verifier
from servicekit.tracing import spans


def run(settings: ServiceSettings, create_app: Callable[[Registration, Verifier], FastAPI]) -> None:
    """Run a service until SIGTERM or SIGINT.

    Args:
        settings: settings of the service.
        create_app: function that creates its app from the registration, for health checks, and the verifier of tokens.
    """
    service, server = settings.service, settings.server
    logs.configure(service.name)
    metrics.tell_version(service.name)
    try:
        verifier = Verifier(settings.auth)
    except SettingsError as error:
        refuse(error)
    registration = Registration(service.registry, service.name, socket.gethostname(), service.address, server.port)
    bounded = Bounded(create_app(registration, verifier), server.body_limit_bytes)
    recorder = spans(service.name, settings.tracing)
    observed = Observed(Head(bounded), service.name, behind_gateway=True, spans=recorder)
    join, leave = registration.start, registration.stop
    serve(observed, server.host, server.port, join=join, leave=leave, protocol=ServiceProtocol)
