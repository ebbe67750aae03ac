"""Tracing: our services send the spans of requests to an externally operated collector."""

import pulumi

from infra.namespace import EstateNamespace
from infra.otlp import leaving_to_otlp
from infra.settings.observability import TracingSettings


class Tracing:
    """Environment variables and network access that a service needs for tracing."""

    def __init__(self, settings: TracingSettings, namespace: EstateNamespace) -> None:
        """Take the settings; only `flow` creates resources.

        Args:
            settings: the stack's settings.
            namespace: namespace of the services.
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
