"""Third-party images, and the origin of our own."""

from pydantic import Field

from infra.settings.base import Settings
from infra.values import Image, Instant, StackName, Text

STAND_INS = "ESTATE_STAND_INS"
"""Environment variable with the path of a JSON file that maps third-party images to the images that this machine has for them."""


class Images(Settings):
    """Third-party images, and the base of our own."""

    python: Image = "docker.io/library/python:3.11-slim-bookworm"
    """Base image of our own images, which `make up` builds."""
    postgres: Image = "docker.io/library/postgres:15"
    """Image of the instance, and of the Jobs that dump and restore."""
    postgres_cluster: Image = "ghcr.io/cloudnative-pg/postgresql:15"
    """Image of the cluster that CloudNativePG runs."""
    redis: Image = "docker.io/library/redis:7.0"
    """Image of the cache."""
    consul: Image = "docker.io/hashicorp/consul:1.22.0"
    """Image of the registry, its servers and agents."""
    prometheus: Image = "docker.io/prom/prometheus:v3.16.0"
    """Image of Prometheus."""
    kube_state_metrics: Image = "registry.k8s.io/kube-state-metrics/kube-state-metrics:v2.18.0"
    """Image of the exporter for the state of workloads."""
    postgres_exporter: Image = "docker.io/prometheuscommunity/postgres-exporter:v0.11.1"
    """Image of the exporter for the state of Postgres."""
    redis_exporter: Image = "docker.io/oliver006/redis_exporter:v1.45.0"
    """Image of the exporter for the state of Redis."""
    alertmanager: Image = "docker.io/prom/alertmanager:v0.28.1"
    """Image of Alertmanager."""
    log_agent: Image = "docker.io/otel/opentelemetry-collector-contrib:0.165.0"
    """Image of the agent that sends logs to the store in `logs`."""
    grafana: Image | None = None
    """Image of Grafana, such as docker.io/grafana/grafana:12.2.1; absent: there is none, and `estate dashboard` shows the same."""


class Promoted(Settings):
    """Origin of a stack's images; `estate promote` writes it."""

    stack: StackName
    """Stack that ran them before."""
    commit: Text = Field(examples=["4f1d7c2"])
    """Commit that they were built from."""
    at: Instant
    """Time of the promotion."""
    by: Text = Field(examples=["ada@example.com"])
    """Person who promoted them."""
