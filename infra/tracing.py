"""Where our services send the spans of requests: a collector that somebody else runs."""

import pulumi

from infra.namespace import EstateNamespace
from infra.otlp import leaving_to_otlp
from infra.settings import TracingSettings


class Tracing:
    """What a service needs for it: its settings, and the way there."""

    def __init__(self, settings: TracingSettings, namespace: EstateNamespace) -> None:
        """Nothing is created but what `flow` is asked for.

        Args:
            settings: of the stack.
            namespace: of the services.
        """
        self.settings = settings
        self.namespace = namespace
        self.environment = {
            "APP_TRACING_ENDPOINT": settings.endpoint,
            "APP_TRACING_RATIO": str(settings.ratio),
            "OTEL_RESOURCE_ATTRIBUTES": f"deployment.environment.name={pulumi.get_stack()}",
        }

    def flow(self, source: str, opts: pulumi.ResourceOptions) -> pulumi.Resource:
        """Let a workload's pods connect to the collector."""
        return leaving_to_otlp(self.settings, source, "tracing", self.namespace.name, opts)
