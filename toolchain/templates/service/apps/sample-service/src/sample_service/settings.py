"""Settings of sample-service."""

from servicekit.settings import Service, ServiceName, ServiceSettings


class SampleService(Service):
    """What the service is called."""

    name: ServiceName = "sample-service"


class SampleServiceSettings(ServiceSettings):
    """All of them; its own tables go here."""

    service: SampleService = SampleService()  # pyright: ignore[reportIncompatibleVariableOverride] - it is frozen
