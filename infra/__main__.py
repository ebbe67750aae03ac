"""The estate: what runs, in what order, and what depends on what."""

import pulumi
import pulumi_kubernetes as kubernetes

from infra.consul import Consul
from infra.gateway_routes import GatewayRoutes
from infra.images import AppImage
from infra.ingress import PublicIngress
from infra.migration import Migration
from infra.namespace import EstateNamespace
from infra.postgres import Postgres
from infra.prometheus import Prometheus
from infra.redis import Redis
from infra.settings import load_cluster, load_secrets, load_settings
from infra.token_clients import TokenClients
from infra.token_keys import TokenKeys
from infra.web_service import App, WebService

settings = load_settings()
secrets = load_secrets()
cluster = load_cluster()

# A Secret or ConfigMap changes in place unless it is immutable. Pulumi's default, replacing every one, first deletes the pods that mount it.
provider = kubernetes.Provider(
    "cluster",
    kubeconfig=cluster.kubeconfig,
    context=cluster.context,
    enable_config_map_mutable=True,
    enable_secret_mutable=True,
)
namespace = EstateNamespace(f"estate-{pulumi.get_stack()}", pulumi.ResourceOptions(providers=[provider]))

user_image = AppImage("user-service", settings)
gateway_image = AppImage("api-gateway", settings)

postgres = Postgres(settings.images.postgres, settings.storage.postgres, secrets.postgres_password, namespace)
redis = Redis(settings.images.redis, secrets.redis_password, namespace)
consul = Consul(settings.images.consul, settings.storage.consul, namespace)

issuer = settings.ingress.url(settings.ingress.host)
keys = TokenKeys(secrets.token_keys, issuer, settings.jwks, namespace)
clients = TokenClients(secrets.operator_secret, settings.api_gateway.clients, namespace)

migrating = App("user-service", user_image.reference, needs=(postgres,))
migrate = ["/app/.venv/bin/python", "-m", "user_service.migrate"]
migration = Migration(migrating, migrate, namespace, depends_on=[postgres])
users = App("user-service", user_image.reference, needs=(postgres, redis, consul), token_keys=keys)
user_service = WebService(users, settings.user_service, namespace, depends_on=[migration, consul])

routes = GatewayRoutes({users.name: settings.user_service}, settings.ingress, namespace)
gateway = App(
    "api-gateway", gateway_image.reference, needs=(consul, redis), token_keys=keys, clients=clients, routes=routes
)
api_gateway = WebService(gateway, settings.api_gateway, namespace, depends_on=[consul])

scraped = [user_service.endpoint, api_gateway.endpoint]
prometheus = Prometheus(settings.images.prometheus, settings.storage.prometheus, scraped, consul.endpoint, namespace)

ingress = PublicIngress(settings.ingress, api_gateway, {"consul": consul, "prometheus": prometheus}, namespace)

pulumi.export("namespace", namespace.name)
pulumi.export("gateway_url", ingress.urls["gateway"])
pulumi.export("urls", ingress.urls)
pulumi.export("images", {"user-service": user_image.reference, "api-gateway": gateway_image.reference})
pulumi.export("versions", settings.images.model_dump())
