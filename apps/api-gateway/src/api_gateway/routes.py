"""Which paths lead to which service."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Route:
    """Everything at or below a path."""

    prefix: str
    service: str

    @property
    def template(self) -> str:
        """What metrics and logs call it."""
        return f"{self.prefix}/{{path}}"


ROUTES = (
    Route("/api/v1/users", "user-service"),
    Route("/api/v2/users", "user-service"),
    Route("/users", "user-service"),
)


def find(path: str) -> Route | None:
    """The route of a path; a prefix ends where a segment does."""
    return next((route for route in ROUTES if path == route.prefix or path.startswith(f"{route.prefix}/")), None)
