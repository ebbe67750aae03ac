"""Names of the database and of the roles in it."""

from dataclasses import dataclass

from infra.services import Service

DATABASE = "myapp"
ADMIN = "postgres"
"""Superuser of a server that we run; it is used only to create roles."""
OWNER = "myuser_owner"
"""Role that owns every schema, and migrates `public`."""
BACKUP = "backup"
"""Role that may read everything."""
METRICS = "metrics"
"""Role that may read the server's statistics, but no rows."""
LOGINS = ("a", "b")
"""Letters of a service's two logins: it uses one while the other's password is changed."""
OWN_ROLES = "svc_"
"""Prefix of the roles of services with a schema of their own."""
APART = "__"
"""Separator between a service's role and the suffix of its logins: no service's name contains it, so no role of one is a login of another."""


@dataclass(frozen=True)
class ServiceRoles:
    """The roles of one service."""

    role: str
    """Role that may read and write rows of the service's tables, and that its logins share. Its own schema, if any, has the same name."""
    owner: str
    """Login of its migration."""
    separator: str
    """Separator between the role's name and a login's letter."""

    @property
    def logins(self) -> dict[str, str]:
        """Return its logins, by the letters of LOGINS."""
        return {letter: f"{self.role}{self.separator}{letter}" for letter in LOGINS}


PUBLIC = ServiceRoles("myuser", OWNER, "_")
"""Roles of the service that has the schema `public`."""
ROLES = (PUBLIC.role, OWNER, *PUBLIC.logins.values(), BACKUP, METRICS)
"""All roles that scripts/roles.sql creates, whatever services there are."""


def roles_of(service: Service) -> ServiceRoles:
    """Return the roles of a service."""
    own = f"{OWN_ROLES}{service.package}"
    return PUBLIC if service.schema == "public" else ServiceRoles(own, f"{own}{APART}owner", APART)
