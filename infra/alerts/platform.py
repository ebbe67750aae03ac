"""Alerts for Postgres, Redis, Consul, the Ingress controller and certificates."""

from infra.alerts.rule import Alert
from infra.authority import NOT_AFTER

RENEWED_D = 30
"""Days before its expiry by which a certificate should have been replaced."""

ALERTS = (
    Alert(
        "PostgresDown",
        'absent(pg_up{job="postgres"} == 1)',
        "critical",
        "the database does not answer",
        "No exporter reports a Postgres that answers ({{ $value }}).",
        lasting="15s",
        labels={"service": "postgres"},
    ),
    Alert(
        "CacheDown",
        'absent(redis_up{job="redis"} == 1)',
        "warning",
        "the cache does not answer: everything is read from the database",
        "No exporter reports a Redis that answers ({{ $value }}).",
        lasting="15s",
        labels={"service": "redis"},
    ),
    Alert(
        "ConsulDown",
        'absent(up{job="consul"} == 1)',
        "critical",
        "no Consul answers: the gateway goes on with the instances that it knows",
        "Prometheus reaches none of its agents ({{ $value }}).",
        lasting="15s",
        labels={"service": "consul"},
    ),
    Alert(
        "ConsulHasNoLeader",
        # The host's name is in the metric's name, unless Consul's telemetry is configured otherwise.
        'max({job="consul",__name__=~"consul_(.+_)?server_isLeader"}) == 0',
        "critical",
        "Consul has no leader: nothing can register",
        "{{ $value }} of its servers lead.",
        lasting="15s",
        labels={"service": "consul"},
    ),
    Alert(
        "IngressDown",
        'max(up{job="ingress"}) == 0',
        "critical",
        "the Ingress controller does not answer: no client reaches the estate",
        "{{ $value }} of its instances answer Prometheus.",
        lasting="15s",
        labels={"service": "ingress"},
    ),
    Alert(
        "CertificateExpires",
        f"vector({NOT_AFTER.timestamp():.0f}) - time() < {RENEWED_D * 86400}",
        "critical",
        "the certificates of Postgres and Consul will soon be refused",
        "They are good for another {{ $value | humanizeDuration }}.",
        lasting="0s",
        labels={"service": "authority"},
    ),
)
