"""Keys, certificates and kubeconfigs: kubeadm makes those of Kubernetes, trustme the local CA of the Ingress."""

import os
import shutil
import subprocess
from pathlib import Path

import trustme
import yaml

from toolchain.build import Toolbox
from toolchain.cluster.layout import (
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
from toolchain.console import ToolchainError

INGRESS_NAMES = ("*.myapp.com", "localhost", "127.0.0.1")
"""Hosts that the Ingress controller's own certificate is good for."""


def create(box: Toolbox) -> None:
    """Make what is not there yet; a half-made set is made anew."""
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
    if not (PKI / "kubelet.crt").exists():
        create_kubelet_certificate()
    write_private(KUBECONFIG, own_kubeconfig((KUBECONFIGS / "super-admin.conf").read_text()))
    if not CA_CERTIFICATE.exists():
        create_ingress_certificate()


def kubeadm(box: Toolbox, *words: str) -> str:
    """Output of a kubeadm command.

    Raises:
        ToolchainError: it failed; with its own words.
    """
    done = subprocess.run(["kubeadm", *words], env={"PATH": box.path}, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ToolchainError(f"`kubeadm {' '.join(words)}` failed: {done.stderr.strip()}")
    return done.stdout


def kubeadm_config(box: Toolbox) -> str:
    """The part of a cluster's configuration that certificates depend on."""
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
    """kubeadm's kubeconfig under one name for cluster, user and context, so that merging it elsewhere is safe."""
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
    """A local CA and one certificate by it; the CA's own key is not kept."""
    folder = CA_CERTIFICATE.parent
    folder.mkdir(parents=True, exist_ok=True)
    authority = trustme.CA(organization_name="estate local CA")
    certificate = authority.issue_cert(*INGRESS_NAMES)
    write_private(folder / "tls.key", certificate.private_key_pem.bytes().decode())
    write_private(folder / "tls.crt", "".join(pem.bytes().decode() for pem in certificate.cert_chain_pems))
    authority.cert_pem.write_to_path(CA_CERTIFICATE)  # last, as the sign that all is there


def create_kubelet_certificate() -> None:
    """The kubelet's own, by the cluster's authority: who scrapes it can tell it from another."""
    authority = trustme.CA.from_pem((PKI / "ca.crt").read_bytes(), (PKI / "ca.key").read_bytes())
    certificate = authority.issue_cert(str(NODE), NODE_NAME)
    write_private(PKI / "kubelet.key", certificate.private_key_pem.bytes().decode())
    write_private(PKI / "kubelet.crt", "".join(pem.bytes().decode() for pem in certificate.cert_chain_pems))


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner reads, as a whole or not at all."""
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    new.replace(path)
