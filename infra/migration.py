"""The migration of a service's database: a Job that has to end well before the service's new pods start."""

from collections.abc import Mapping, Sequence

import pulumi

from infra.jobs import run_once
from infra.namespace import EstateNamespace
from infra.pods import resources
from infra.services import Service
from infra.web_service import App, Dependency, app_secret, container, flows, pod_of


class Migration(pulumi.ComponentResource):
    """The schema of a service's database, brought to what the service's image wants."""

    def __init__(
        self,
        service: Service,
        image: pulumi.Output[str],
        variables: Mapping[str, str],
        database: Dependency,
        namespace: EstateNamespace,
        depends_on: Sequence[pulumi.Resource],
    ) -> None:
        """Create the Job; its name is Pulumi's, since another image is another Job.

        Args:
            service: whose `migrate` it runs: once, and from any earlier version.
            image: of the service.
            variables: of the service, whose settings it reads.
            database: by the login of its owner.
            namespace: where it runs.
            depends_on: what has to be there before.
        """
        app = App(service.name, image, needs=(database,), variables=variables)
        name = f"{app.name}-migration"
        super().__init__(
            "estate:migration:Migration", name, {}, pulumi.ResourceOptions(parent=namespace, depends_on=depends_on)
        )
        secret = app_secret(name, app, namespace, self)
        command = ["/app/.venv/bin/python", "-m", f"{service.package}.migrate"]
        migrating = container(app, secret) | {"command": command, "resources": resources("50m", "192Mi")}
        run_once(name, pod_of(migrating, app, secret), namespace, self, flows(name, app, namespace, self))
        self.register_outputs({})
