"""Access to the Kubernetes API: a ServiceAccount with a Role in its own namespace, and a token that only its own pods have."""

from collections.abc import Sequence
from typing import Any

import pulumi
from pulumi_kubernetes.core.v1 import ServiceAccount
from pulumi_kubernetes.rbac.v1 import ClusterRole, ClusterRoleBinding, Role, RoleBinding

from infra.namespace import EstateNamespace
from infra.network_policy import Endpoint
from infra.pods import MANAGED_BY, manifest, metadata
from infra.settings.cluster import ApiServer

FOLDER = "/var/run/secrets/kubernetes.io/serviceaccount"
"""Folder in which clients look for token and CA (https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/)."""
TOKEN, CA = f"{FOLDER}/token", f"{FOLDER}/ca.crt"
MOUNT = {"name": "kube-access", "mountPath": FOLDER, "readOnly": True}
VOLUME = {
    "name": "kube-access",
    "projected": {
        "defaultMode": 0o440,
        "sources": [
            {"serviceAccountToken": {"path": "token", "expirationSeconds": 3600}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
        ],
    },
}
"""Volume with the token, mounted explicitly where it is needed, so that no pod has a token by default."""
READ = ["get", "list", "watch"]
Rule = dict[str, Any]


def endpoint(api_server: ApiServer) -> Endpoint:
    """Return the endpoint of the Kubernetes API, for network policies."""
    return Endpoint("api-server", api_server.port, networks=tuple(api_server.networks))


def readable(group: str, *resources: str) -> Rule:
    """Return a rule that allows resources to be read."""
    return {"apiGroups": [group], "resources": list(resources), "verbs": READ}


class KubeAccess(pulumi.ComponentResource):
    """A workload's identity for the Kubernetes API."""

    account: pulumi.Output[str]
    """Name of the ServiceAccount."""
    annotations: dict[str, pulumi.Output[str]]
    """Annotations of the pods: the account's UID, so that an account that is deleted and created again gets new pods.

    A token contains the UID of its account, and the kubelet renews a pod's token only after 48 of its 60 minutes.
    """

    def __init__(
        self,
        name: str,
        rules: Sequence[Rule],
        namespace: EstateNamespace,
        parent: pulumi.Resource,
        cluster_rules: Sequence[Rule] = (),
    ) -> None:
        """Create the account and its roles.

        Args:
            name: name of the workload.
            rules: rules of its Role, in its namespace.
            namespace: namespace that it runs in.
            parent: component of the workload.
            cluster_rules: rules of its ClusterRole, for resources without a namespace.
        """
        super().__init__("estate:kube_access:KubeAccess", name, {}, pulumi.ResourceOptions(parent=parent))
        child = pulumi.ResourceOptions(parent=self)
        named = metadata(name, namespace.name)
        account = ServiceAccount(name, metadata=named, automount_service_account_token=False, opts=child)
        subjects = [{"kind": "ServiceAccount", "name": name, "namespace": namespace.name}]
        group = "rbac.authorization.k8s.io"
        Role(name, metadata=named, rules=manifest(list(rules)), opts=child)
        RoleBinding(
            name,
            metadata=named,
            role_ref=manifest({"apiGroup": group, "kind": "Role", "name": name}),
            subjects=manifest(subjects),
            opts=child,
        )
        if cluster_rules:
            # Stacks share the cluster: each has a ClusterRole of its own.
            wide = namespace.name.apply(lambda of: f"{of}-{name}")
            of_all = manifest({"name": wide, "labels": MANAGED_BY})
            ClusterRole(name, metadata=of_all, rules=manifest(list(cluster_rules)), opts=child)
            ClusterRoleBinding(
                name,
                metadata=of_all,
                role_ref=manifest({"apiGroup": group, "kind": "ClusterRole", "name": wide}),
                subjects=manifest(subjects),
                opts=child,
            )
        self.account = account.metadata.name
        self.annotations = {"estate/service-account-uid": account.metadata.uid}
        self.register_outputs({"account": self.account})
