"""The estate's Pulumi program: its components in the order of their creation, with their dependencies."""

from collections.abc import Callable

import pulumi
import pulumi_kubernetes as kubernetes

from infra import alerts
from infra.alertmanager import Alertmanager
from infra.authority import Authority
from infra.calls import Callee
from infra.dashboards.catalogue import dashboards
from infra.database_backups import DatabaseBackups
from infra.database_roles import DatabaseRoles
from infra.exporters import postgres_metrics, redis_metrics
from infra.gateway_routes import GatewayRoutes
from infra.grafana import Grafana
from infra.images import AppImage
from infra.ingress import Backend, PublicIngress
from infra.kinds import database_server, registry
from infra.kube_state_metrics import KubeStateMetrics
from infra.log_agent import LogAgent
from infra.migration import Migration
from infra.namespace import EstateNamespace
from infra.prometheus import Prometheus, runbooks_url
from infra.protection import protect_state, win_conflicts
from infra.redis import Redis
from infra.services import CALLEES_FIRST, GATEWAY, NAMES, SERVICES, Need, Service
from infra.settings.running import load_cluster, load_settings, reported
from infra.stack_secrets import load_secrets
from infra.token_clients import TokenClients
from infra.token_keys import TokenKeys
from infra.tracing import Tracing
from infra.web_service import App, Dependency, WebService
from infra.work import BackgroundWorker, ScheduledJob

with reported():
    settings = load_settings()
    secrets = load_secrets(settings)
    cluster = load_cluster()

# A Secret or ConfigMap changes in place unless it is immutable. Pulumi's default, replacing every one, first deletes the pods that mount it.
provider = kubernetes.Provider(
    "cluster",
    kubeconfig="",  # the provider's own default; the SDK's, the path in KUBECONFIG, would be kept in the state
    context=cluster.context,
    render_yaml_to_directory=cluster.folder,
    enable_config_map_mutable=True,
    enable_secret_mutable=True,
)
everything = pulumi.ResourceOptions(
    providers=[provider], transformations=[win_conflicts, *([protect_state] if settings.protected else [])]
)
namespace = EstateNamespace(f"estate-{pulumi.get_stack()}", everything)

images = {name: AppImage(name, settings).reference for name in NAMES}

authority = Authority(secrets.authority_seed)
postgres = database_server(settings, secrets.database, authority, namespace)
with_tables = [service for service in SERVICES if "postgres" in service.needs or service.migrates]
roles = DatabaseRoles(postgres, settings.images.postgres, secrets.database, with_tables, namespace)
DatabaseBackups(postgres, settings, roles, secrets.database, namespace)
redis = Redis(settings.images.redis, secrets.redis_password, namespace)
consul = registry(settings, secrets.consul_seed, authority, namespace)
postgres_metrics(settings.images.postgres_exporter, postgres, secrets.database.metrics, namespace, roles)
redis_metrics(settings.images.redis_exporter, secrets.redis_password, namespace, redis)
provided: dict[Need, Callable[[Service], Dependency]] = {
    "postgres": roles.login,
    "redis": lambda _service: redis,
    "consul": lambda _service: consul,
}

issuer = settings.ingress.url(settings.ingress.host)
keys = TokenKeys(secrets.token_keys, issuer, settings.jwks, namespace)
tracing = Tracing(settings.tracing, namespace) if settings.tracing else None
clients = TokenClients(secrets.operator_secret, settings.clients, namespace)

declared: dict[str, Service] = {service.name: service for service in SERVICES}
running: dict[str, WebService] = {}
for service in CALLEES_FIRST:
    image, own = images[service.name], settings.variables_of(service)
    callees = [Callee(declared[name], service) for name in service.calls]
    needs = (*(provided[need](service) for need in service.needs), *callees)
    kept = secrets.of(service)
    migrating = (service, image, own, kept)
    migration = Migration(*migrating, roles.owner(service), namespace, [roles]) if service.migrates else None
    outside = settings.outside_of(service)
    app = App(service.name, image, needs, keys, tracing=tracing, variables=own, own_secrets=kept, outside=outside)
    before = [consul, roles, *([migration] if migration else []), *(running[name] for name in service.calls)]
    running[service.name] = WebService(app, settings.of(service.name), namespace, depends_on=before)
    for job in service.jobs:
        ScheduledJob(app.of(service.workload(job)), job, settings.of(service.name), namespace, depends_on=before)
    for worker in service.workers:
        BackgroundWorker(app.of(service.workload(worker)), worker, settings.of(service.name), namespace, before)

routes = GatewayRoutes({service.name: settings.routes_of(service) for service in SERVICES}, settings.ingress, namespace)
gateway_app = App(
    GATEWAY, images[GATEWAY], (consul, redis), token_keys=keys, clients=clients, routes=routes, tracing=tracing
)
gateway = WebService(gateway_app, settings.of(GATEWAY), namespace, depends_on=[consul])

KubeStateMetrics(settings.images.kube_state_metrics, settings.api_server, namespace)
ours = [service.endpoint for service in (*running.values(), gateway)]
slos = {name: settings.of(name).slo for name in NAMES}
rules = alerts.rules(slos, settings.postgres.backup.too_old_h, runbooks_url(settings))
alertmanager = Alertmanager(settings, secrets.receivers, namespace)
if settings.logs:
    LogAgent(settings.images.log_agent, settings.logs, namespace, everything)
prometheus = Prometheus(settings, ours, consul.scraped, rules, alertmanager.endpoint, namespace)

consoles: dict[str, Backend] = {"consul": consul, "prometheus": prometheus, "alertmanager": alertmanager}
if settings.images.grafana and secrets.grafana_password:
    shown = dashboards(slos)
    consoles["grafana"] = Grafana(settings.images.grafana, shown, secrets.grafana_password, prometheus, namespace)
ingress = PublicIngress(settings.ingress, routes.paths, gateway, consoles, namespace)

if not cluster.folder:
    system = kubernetes.core.v1.Namespace.get("kube-system", "kube-system", pulumi.ResourceOptions(provider=provider))
    pulumi.export("cluster", {"context": cluster.context, "uid": system.metadata.uid})
pulumi.export("namespace", namespace.name)
pulumi.export("gateway_url", ingress.urls["gateway"])
pulumi.export("urls", ingress.urls)
pulumi.export("images", images)
pulumi.export("versions", settings.images.model_dump(exclude_none=True))
