"""Addresses, ports and folders of the embedded cluster, which do not collide with anything else on the machine."""

from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from estate.core.paths import STATE

NODE_NAME = "estate"
CONTEXT = "estate"
BRIDGE = "estate0"
NODE = IPv4Address("10.213.0.1")
PODS = IPv4Network("10.213.1.0/24")
SERVICES = IPv4Network("10.213.4.0/22")
DNS = SERVICES[10]
OWN = IPv4Network("10.213.0.0/16")

REGISTRY = "127.0.0.1:5000"
HTTP_PORT, HTTPS_PORT = 8080, 8443
MIRRORED = ("docker.io", "ghcr.io", "registry.k8s.io")
"""Registries that our own registry mirrors, with stand-ins; images that it lacks come from upstream."""
LOCAL_PORTS = {5000: "the image registry", HTTP_PORT: "the Ingress (HTTP)", HTTPS_PORT: "the Ingress (HTTPS)"}
"""Ports on 127.0.0.1, with their purposes; every other port of the cluster is on the bridge."""

ROOT = STATE / "cluster"
RUN = Path("/run/estate")
"""Folder of sockets and the containers' runtime state: empty after a reboot, as containerd expects."""

PKI = ROOT / "pki"
KUBECONFIGS = ROOT / "kubeconfigs"
KUBECONFIG = ROOT / "kubeconfig"
SERVICES_DIR = ROOT / "services"
LOGS = ROOT / "logs"
CONFIG = ROOT / "config"
TOOLS = ROOT / "tools.json"
DATA = ROOT / "data"
POD_LOGS = DATA / "pod-logs"
VOLUMES = ROOT / "volumes"
CA_CERTIFICATE = ROOT / "ingress" / "ca.crt"

CONTAINERD_SOCKET = RUN / "containerd.sock"
BUILDKIT_SOCKET = RUN / "buildkitd.sock"
DOCKER_CONFIG = ROOT / "docker"

CGROUP = "/estate"
"""Control group of the cluster: every process of the cluster is in it or below it, and no other process is."""
