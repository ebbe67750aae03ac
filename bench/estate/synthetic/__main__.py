"""Pulumi program of an estate of N services, built from the estate's own components: each registers itself and has a cache, as user-service does."""

import pulumi
import pulumi_kubernetes as kubernetes

from infra.consul import Consul
from infra.namespace import EstateNamespace
from infra.redis import Redis
from infra.settings.base import Quantities
from infra.settings.images import Images
from infra.settings.running import load_cluster
from infra.settings.service import ServiceSettings, Slo
from infra.web_service import App, WebService

SETTINGS = ServiceSettings(
    replicas=3,
    requests=Quantities(cpu="250m", memory="64Mi"),
    limits=Quantities(cpu="500m", memory="128Mi"),
    slo=Slo(availability_percent=99.9, latency_percent=99, latency_s=0.5),
)
IMAGE = "localhost:5000/estate/synthetic@sha256:" + "0" * 64

cluster = load_cluster()
provider = kubernetes.Provider("cluster", context=cluster.context, render_yaml_to_directory=cluster.folder)
namespace = EstateNamespace("estate-synthetic", pulumi.ResourceOptions(providers=[provider]))
redis = Redis(Images().redis, pulumi.Output.secret("synthetic"), namespace)
consul = Consul(Images().consul, "256Mi", namespace)
for number in range(pulumi.Config("synthetic").require_int("services")):
    app = App(f"service-{number}", pulumi.Output.from_input(IMAGE), needs=(redis, consul))
    WebService(app, SETTINGS, namespace, depends_on=[consul])
