"""Consul with three servers, of which one may fail, and an agent on each node, with which services register."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pulumi
from pulumi_kubernetes.apps.v1 import DaemonSet, StatefulSet
from pulumi_kubernetes.batch.v1 import Job
from pulumi_kubernetes.core.v1 import Secret, Service
from pulumi_kubernetes.policy.v1 import PodDisruptionBudget

from infra import consul_access
from infra.authority import Authority
from infra.consul_access import Keys
from infra.consul_pods import (
    AGENT_NAME,
    CLI,
    FOLDER,
    HTTPS,
    LEADER,
    NAME,
    NODES,
    PORT,
    SERVER_NAME,
    SERVERS,
    acl,
    agent,
    agent_pod,
    client_pod,
    server,
    server_pod,
)
from infra.consul_snapshots import ConsulSnapshots
from infra.jobs import run_once
from infra.namespace import EstateNamespace
from infra.network_policy import Endpoint, Flow
from infra.pods import labels, manifest, metadata, resources, selector, unnamed
from infra.prometheus import FOLDER as PROMETHEUS_FOLDER
from infra.prometheus import Scraped
from infra.volumes import claim_template, claims_of, on_claims
from infra.waiting import ROLLOUT

ACCESS = f"{NAME}-access"
TOKEN_FILE = "/run/secrets/app/consul-token"  # noqa: S105 - a path, not a token
STABLE_S = 15
"""Seconds until the next server is replaced: autopilot makes a server a voter 10 s after it has joined."""
RPC_AND_GOSSIP = Endpoint(SERVERS, 8300, (("TCP", 8301), ("UDP", 8301)))
API = Endpoint(SERVERS, HTTPS)
GRANT = f"""\
{LEADER}for rules in "$1"/*.hcl; do
  name=$(basename "$rules" .hcl)
  if consul acl policy read -name "$name" >/dev/null 2>&1
  then consul acl policy update -name "$name" -no-merge -rules "@$rules" >/dev/null
  else consul acl policy create -name "$name" -rules "@$rules" >/dev/null
  fi
  if ! consul acl token read -self -token-file "$1/$name.token" >/dev/null 2>&1
  then consul acl token create -policy-name "$name" -description "estate: $name" -secret "$(cat "$1/$name.token")" >/dev/null
  fi
  echo "granted: $name"
done
"""


class ConsulCluster(pulumi.ComponentResource):
    """A service registry that survives the loss of any one server; its clients need tokens."""

    endpoint = Endpoint(NAME, PORT)
    """The agent on the caller's own node. Traffic to it is not encrypted, and never leaves the node."""
    calls_back = True  # the agents run health checks against registered services
    environment: dict[str, str]
    """Environment variables of a service that registers."""
    scraped: Scraped
    service: Service

    def __init__(
        self,
        image: str,
        storage: str,
        keys: Keys,
        authority: Authority,
        apps: Sequence[str],
        gateway: str,
        namespace: EstateNamespace,
    ) -> None:
        """Create the servers, the ACL policies and tokens, and the agents.

        Args:
            image: reference of the upstream image, or of a compatible one.
            storage: size of each server's volume, a Kubernetes quantity.
            keys: ACL tokens, and the gossip key.
            authority: issuer of the certificates.
            apps: services that register.
            gateway: the service that looks up the others.
            namespace: namespace that it runs in.
        """
        # Same type as the single-server component: resources that both have are updated in place, not created and deleted.
        super().__init__("estate:consul:Consul", NAME, {}, pulumi.ResourceOptions(parent=namespace))
        self._image, self._keys, self._authority, self._namespace = image, keys, authority, namespace
        self._rules = consul_access.policies(apps, gateway, f"{SERVERS}-", f"{NAME}-")
        servers = self._servers(storage)
        granted = self._access(servers)
        self.service = self._agents(granted)
        management = {"management.token": keys.token(consul_access.MANAGEMENT), "ca.crt": authority.certificate}
        ConsulSnapshots(image, storage, API, CLI, (FOLDER, management), namespace, self)
        self.environment = {
            "APP_SERVICE_REGISTRY_ADDRESS": self.endpoint.address,
            "APP_SERVICE_REGISTRY_TOKEN_FILE": TOKEN_FILE,
        }
        self.scraped = self._scraped()
        self.register_outputs({})

    def secrets_of(self, app: str, /) -> dict[str, pulumi.Output[str]]:
        """Return the files that a service needs mounted: its own token."""
        return {"consul-token": self._keys.token(app)}

    def _servers(self, storage: str) -> StatefulSet:
        child = pulumi.ResourceOptions(parent=self)
        named = metadata(SERVERS, self._namespace.name)
        management = self._keys.token(consul_access.MANAGEMENT)
        tokens = {"initial_management": management, "agent": self._keys.token(consul_access.SERVER)}
        secret = self._secret(
            SERVERS,
            {"agent.json": self._configuration(server(), tokens), "management.token": management}
            | self._authority.issue(SERVERS, [SERVER_NAME, SERVERS, "localhost"], client=True),
        )
        headless = {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,  # they have to find each other before any is ready
            "selector": selector(SERVERS),
            "ports": [{"name": "https", "port": HTTPS}],
        }
        Service(SERVERS, metadata=named, spec=manifest(headless), opts=child)
        budget = {"maxUnavailable": 1, "selector": {"matchLabels": selector(SERVERS)}}
        PodDisruptionBudget(SERVERS, metadata=named, spec=manifest(budget), opts=child)
        claims = claims_of(SERVERS, storage, self._namespace, self, len(NODES))
        return StatefulSet(
            SERVERS,
            metadata=named,
            spec=manifest(
                {
                    "serviceName": SERVERS,
                    "replicas": len(NODES),
                    "podManagementPolicy": "Parallel",  # none becomes ready without the others
                    "minReadySeconds": STABLE_S,
                    "selector": {"matchLabels": selector(SERVERS)},
                    "template": {
                        "metadata": {"labels": labels(SERVERS)},
                        "spec": server_pod(self._image, secret.metadata.name),
                    },
                    "volumeClaimTemplates": [claim_template(storage)],
                }
            ),
            opts=on_claims(self, self._flow(SERVERS, RPC_AND_GOSSIP), *claims),
        )

    def _access(self, servers: StatefulSet) -> Job:
        """Create the ACL policies and tokens with a Job. Pulumi names it, since changed rules need another Job."""
        files = {f"{name}.hcl": pulumi.Output.from_input(rules) for name, rules in self._rules.items()}
        files |= {f"{name}.token": self._keys.token(name) for name in (*self._rules, consul_access.MANAGEMENT)}
        secret = self._secret(ACCESS, files | {"ca.crt": self._authority.certificate})
        container = {
            "name": ACCESS,
            "image": self._image,
            "command": ["sh", "-c", GRANT, "sh", FOLDER],
            "env": [{"name": name, "value": value} for name, value in CLI.items()],
            "resources": resources("50m", "128Mi"),
        }
        pod, before = client_pod(container, secret.metadata.name), [servers, self._flow(ACCESS, API)]
        return run_once(ACCESS, pod, self._namespace, self, before)

    def _agents(self, granted: Job) -> Service:
        named = metadata(NAME, self._namespace.name)
        tokens = {"agent": self._keys.token(consul_access.AGENT)}
        secret = self._secret(
            NAME,
            {"agent.json": self._configuration(agent(), tokens)}
            | self._authority.issue(NAME, [AGENT_NAME], client=True),
        )
        gossip = Endpoint(NAME, 8301, (("UDP", 8301),))
        flows = [
            self._flow(NAME, RPC_AND_GOSSIP),
            self._flow(NAME, gossip),
            self._flow(SERVERS, gossip),
        ]
        agents = DaemonSet(
            NAME,
            metadata=named,
            spec=manifest(
                {
                    "selector": {"matchLabels": selector(NAME)},
                    "updateStrategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
                    "template": {
                        "metadata": {"labels": labels(NAME)},
                        "spec": agent_pod(self._image, secret.metadata.name),
                    },
                }
            ),
            opts=pulumi.ResourceOptions(parent=self, depends_on=[granted, *flows], custom_timeouts=ROLLOUT),
        )
        child = pulumi.ResourceOptions(parent=self, depends_on=[agents])
        # Headless: DNS lists every agent, for Prometheus.
        every = f"{NAME}-pods"
        headless = {"clusterIP": "None", "selector": selector(NAME), "ports": [{"name": "https", "port": HTTPS}]}
        Service(every, metadata=metadata(every, self._namespace.name), spec=manifest(headless), opts=child)
        local = {
            "internalTrafficPolicy": "Local",
            "selector": selector(NAME),
            "ports": [{"name": "http", "port": PORT}],
        }
        return Service(NAME, metadata=named, spec=manifest(local), opts=child)

    def _scraped(self) -> Scraped:
        jobs = [
            {
                "job_name": name,
                "scheme": "https",
                "metrics_path": "/v1/agent/metrics",
                "params": {"format": ["prometheus"]},
                "authorization": {"credentials_file": f"{PROMETHEUS_FOLDER}/consul-token"},
                "tls_config": {"ca_file": f"{PROMETHEUS_FOLDER}/ca.crt", "server_name": host},
                "dns_sd_configs": [{"names": [found], "type": "A", "port": HTTPS, "refresh_interval": "5s"}],
            }
            for name, host, found in ((SERVERS, SERVER_NAME, SERVERS), (NAME, AGENT_NAME, f"{NAME}-pods"))
        ]
        files = {
            "consul-token": self._keys.token(consul_access.PROMETHEUS),
            "ca.crt": self._authority.certificate,
        }
        return Scraped((API, Endpoint(NAME, HTTPS)), jobs, files)

    def _secret(self, name: str, files: Mapping[str, pulumi.Output[str]]) -> Secret:
        """Create a Secret with files for a workload's pods. Changed content gives it another name, so that the pods roll."""
        return Secret(
            name,
            metadata=unnamed(name, self._namespace.name),
            string_data=files,
            immutable=True,
            opts=pulumi.ResourceOptions(parent=self),
        )

    def _configuration(self, fields: dict[str, Any], tokens: Mapping[str, pulumi.Output[str]]) -> pulumi.Output[str]:
        def rendered(known: dict[str, Any]) -> str:
            return json.dumps(fields | {"encrypt": known.pop("gossip"), "acl": acl(known)})

        return pulumi.Output.secret(pulumi.Output.all(gossip=self._keys.gossip, **tokens).apply(rendered))

    def _flow(self, source: str, to: Endpoint) -> Flow:
        return Flow(source, to, self._namespace.name, self)
