"""The migration of a service's database: a Job that has to succeed before the service's new pods start."""

from collections.abc import Mapping, Sequence

import pulumi

from infra.jobs import run_once
from infra.namespace import EstateNamespace
from infra.pods import resources
from infra.services import Service
from infra.web_service import App, Dependency, app_secret, container, flows, pod_of


class Migration(pulumi.ComponentResource):
    """A Job that migrates a service's database to the schema that the service's image needs."""

    def __init__(
        self,
        service: Service,
        image: pulumi.Output[str],
        variables: Mapping[str, str],
        secrets: Mapping[str, pulumi.Output[str]],
        database: Dependency,
        namespace: EstateNamespace,
        depends_on: Sequence[pulumi.Resource],
    ) -> None:
        """Create the Job. Pulumi names it, since another image needs another Job.

        Args:
            service: service whose `migrate` it runs once, from any earlier version.
            image: image of the service.
            variables: environment variables of the service, whose settings the migration reads.
            secrets: the service's own secrets, likewise.
            database: the database, with its owner's login.
            namespace: namespace that it runs in.
            depends_on: resources that have to exist first.
        """
        app = App(service.name, image, needs=(database,), variables=variables, own_secrets=secrets)
        name = f"{app.name}-migration"
        super().__init__(
            "estate:migration:Migration", name, {}, pulumi.ResourceOptions(parent=namespace, depends_on=depends_on)
        )
        secret = app_secret(name, app, namespace, self)
        command = ["/app/.venv/bin/python", "-m", f"{service.package}.migrate"]
        migrating = container(app, secret) | {"command": command, "resources": resources("50m", "192Mi")}
        run_once(name, pod_of(migrating, app, secret), namespace, self, flows(name, app, namespace, self))
        self.register_outputs({})
