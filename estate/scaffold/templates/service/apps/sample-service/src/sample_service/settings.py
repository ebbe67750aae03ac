"""Settings of sample-service."""

#: database
from pydantic import Field
#: end
from servicekit import settings as shared


class SampleServiceName(shared.Service):
    """The service's name."""

    name: shared.ServiceName = "sample-service"
#: database


class SampleServiceItems(shared.Settings):
    """Bounds of what the service holds."""

    most: int = Field(default=100, ge=1, le=1000)
    """The largest number of items in a list."""
#: end
#: calls


class SampleServiceCalls(shared.Settings):
    """Services that this one calls."""

    #: each callee
    callee_service: shared.Called = shared.Called(url="http://localhost:8080")
    #: end each
#: end


#: database
class SampleServiceSettings(shared.DatabaseSettings):
#: else
class SampleServiceSettings(shared.ServiceSettings):
#: end
    """All of them; its own tables go here."""

    service: SampleServiceName = SampleServiceName()  # pyright: ignore[reportIncompatibleVariableOverride] - it is frozen
    #: database
    items: SampleServiceItems = SampleServiceItems()
    #: end
    #: calls
    calls: SampleServiceCalls = SampleServiceCalls()
    #: end
