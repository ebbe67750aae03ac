"""Keys, certificates and kubeconfigs: kubeadm creates those of Kubernetes; the Ingress has its own certificate authority."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import yaml

from estate.cluster import certificates
from estate.cluster.certificates import Authority
from estate.cluster.layout import (
    CA_CERTIFICATE,
    CONTAINERD_SOCKET,
    CONTEXT,
    KUBECONFIG,
    KUBECONFIGS,
    NODE,
    NODE_NAME,
    PKI,
    PODS,
    ROOT,
    SERVICES,
)
from estate.core.console import EstateError, report
from estate.tools.build import Toolbox

INGRESS_HOSTS = ("*.myapp.com", "localhost", "127.0.0.1")
"""Hosts of the Ingress controller's default certificate."""
INGRESS_CERTIFICATE, INGRESS_KEY = (CA_CERTIFICATE.with_name(name) for name in ("tls.crt", "tls.key"))
CLUSTER_CA, KUBELET_CERTIFICATE, KUBELET_KEY = (PKI / name for name in ("ca.crt", "kubelet.crt", "kubelet.key"))
KUBELET_HOSTS = (str(NODE), NODE_NAME)


def create(box: Toolbox) -> None:
    """Create missing files, and replace an incomplete set and certificates that are not current."""
    complete = PKI / "complete"
    if not complete.exists():
        for folder in (PKI, KUBECONFIGS):
            shutil.rmtree(folder, ignore_errors=True)
        config = ROOT / "kubeadm.yaml"
        config.write_text(kubeadm_config(box))
        kubeadm(box, "init", "phase", "certs", "all", "--config", str(config))
        kubeadm(
            box, "init", "phase", "kubeconfig", "all", "--config", str(config), "--kubeconfig-dir", str(KUBECONFIGS)
        )
        complete.touch()
    for name, user in (("proxy", "system:kube-proxy"), ("kube-router", "kube-router")):
        file = KUBECONFIGS / f"{name}.conf"
        if not file.exists():
            words = ("kubeconfig", "user", "--client-name", user, "--config", str(ROOT / "kubeadm.yaml"))
            write_private(file, kubeadm(box, *words))
    write_private(KUBECONFIG, own_kubeconfig((KUBECONFIGS / "super-admin.conf").read_text()))
    renew()


def renew() -> None:
    """Create or replace the certificates that kubeadm does not manage, if they are missing or not current."""
    if not kubelet_is_current():
        create_kubelet_certificate()
    if not ingress_is_current():
        if CA_CERTIFICATE.exists():
            report(
                f"  the Ingress has another authority: clients that trusted the old one have to trust {CA_CERTIFICATE}"
            )
        create_ingress_certificate()


def is_current() -> bool:
    """Return whether the certificates that kubeadm does not manage are current."""
    return kubelet_is_current() and ingress_is_current()


def kubelet_is_current() -> bool:
    """Return whether the kubelet's certificate is current."""
    return certificate_is_current(KUBELET_CERTIFICATE, CLUSTER_CA, KUBELET_HOSTS)


def ingress_is_current() -> bool:
    """Return whether the Ingress' certificate and its authority's are current."""
    return certificate_is_current(INGRESS_CERTIFICATE, CA_CERTIFICATE, INGRESS_HOSTS)


def certificate_is_current(certificate: Path, authority: Path, hosts: Sequence[str]) -> bool:
    """Return whether a file holds a current certificate."""
    if not (certificate.exists() and authority.exists()):
        return False
    return certificates.is_current(certificate.read_bytes(), authority.read_bytes(), hosts)


def kubeadm(box: Toolbox, *words: str) -> str:
    """Run kubeadm, and return its output.

    Raises:
        EstateError: it failed; with its error output.
    """
    done = subprocess.run(["kubeadm", *words], env={"PATH": box.path}, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise EstateError(f"`kubeadm {' '.join(words)}` failed: {done.stderr.strip()}")
    return done.stdout


def kubeadm_config(box: Toolbox) -> str:
    """Return the part of the cluster's configuration that determines the certificates."""
    version = kubeadm(box, "version", "-o", "short").strip()
    documents = [
        {
            "apiVersion": "kubeadm.k8s.io/v1beta4",
            "kind": "InitConfiguration",
            "localAPIEndpoint": {"advertiseAddress": str(NODE), "bindPort": 6443},
            "nodeRegistration": {"name": NODE_NAME, "criSocket": f"unix://{CONTAINERD_SOCKET}"},
        },
        {
            "apiVersion": "kubeadm.k8s.io/v1beta4",
            "kind": "ClusterConfiguration",
            "kubernetesVersion": version,
            "clusterName": CONTEXT,
            "certificatesDir": str(PKI),
            "certificateValidityPeriod": "87600h0m0s",
            "caCertificateValidityPeriod": "87600h0m0s",
            "networking": {"serviceSubnet": str(SERVICES), "podSubnet": str(PODS), "dnsDomain": "cluster.local"},
        },
    ]
    return yaml.safe_dump_all(documents)


def own_kubeconfig(admin: str) -> str:
    """Return kubeadm's kubeconfig with one name for cluster, user and context, so that it can be merged into another safely."""
    config = yaml.safe_load(admin)
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": CONTEXT, "cluster": config["clusters"][0]["cluster"]}],
            "users": [{"name": CONTEXT, "user": config["users"][0]["user"]}],
            "contexts": [{"name": CONTEXT, "context": {"cluster": CONTEXT, "user": CONTEXT}}],
            "current-context": CONTEXT,
        }
    )


def create_ingress_certificate() -> None:
    """Create a local authority and one certificate issued by it; the authority's own key is not stored."""
    CA_CERTIFICATE.parent.mkdir(parents=True, exist_ok=True)
    authority = Authority.create("estate local CA")
    certificate, key = authority.issue(INGRESS_HOSTS)
    write_private(INGRESS_KEY, key)
    write_private(INGRESS_CERTIFICATE, certificate)
    CA_CERTIFICATE.write_text(certificates.pem(authority.certificate))  # last: its existence marks the set as complete


def create_kubelet_certificate() -> None:
    """Create the kubelet's certificate, issued by the cluster's authority, so that scrapers can verify the kubelet."""
    authority = Authority.read(CLUSTER_CA.read_bytes(), CLUSTER_CA.with_suffix(".key").read_bytes())
    certificate, key = authority.issue(KUBELET_HOSTS)
    write_private(KUBELET_KEY, key)
    write_private(KUBELET_CERTIFICATE, certificate)


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, atomically."""
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    new.replace(path)
