"""Alerts that every service has, derived from its name alone."""

from infra.alerts.rule import Alert


def alerts(service: str) -> list[Alert]:
    """Return the alerts of a service other than those of its objectives."""
    own = {"service": service}
    registered = f'(sum(service_registered{{job="{service}"}}) or vector(0))'
    return [
        Alert(
            "ServiceDown",
            f'absent(up{{job="{service}"}} == 1)',
            "critical",
            f"no instance of {service} answers",
            "None of its pods answers Prometheus ({{ $value }}): there are none, or they are dead.",
            lasting="15s",
            labels=own,
        ),
        Alert(
            "InstancesUnregistered",
            f'sum(kube_deployment_status_replicas_ready{{deployment="{service}"}}) - {registered} > 0',
            "warning",
            f"instances of {service} are ready, and Consul does not know them",
            "{{ $value }} ready instances get no requests.",
            lasting="30s",
            labels=own,
        ),
    ]
