"""Host processes of the cluster, in start order."""

import socket
import ssl
import urllib.error
import urllib.request
from pathlib import Path

from estate.cluster import images
from estate.cluster.layout import (
    BUILDKIT_SOCKET,
    CONFIG,
    CONTAINERD_SOCKET,
    DATA,
    KUBECONFIGS,
    MIRRORED,
    NODE,
    NODE_NAME,
    PKI,
    POD_LOGS,
    PODS,
    REGISTRY,
    SERVICES,
)
from estate.cluster.supervision import Component
from estate.tools.build import Toolbox


def components() -> list[Component]:
    """Return all host processes, with their commands and readiness checks."""
    return [
        Component("etcd", etcd(), lambda: answers(f"http://{NODE}:2381/health")),
        Component("containerd", ["containerd", "--config", str(CONFIG / "containerd.toml")], lambda: accepts(CONTAINERD_SOCKET)),
        Component("registry", ["docker-registry", "serve", str(CONFIG / "registry.yaml")], lambda: answers(f"http://{REGISTRY}/v2/")),
        Component("buildkitd", ["buildkitd", "--config", str(CONFIG / "buildkitd.toml")], lambda: accepts(BUILDKIT_SOCKET)),
        Component("kube-apiserver", apiserver(), lambda: answers(f"https://{NODE}:6443/readyz"), deadline_s=120),
        Component("kube-controller-manager", controller_manager(), lambda: answers(f"https://{NODE}:10257/healthz")),
        Component("kube-scheduler", scheduler(), lambda: answers(f"https://{NODE}:10259/healthz")),
        Component("kubelet", ["kubelet", f"--config={CONFIG / 'kubelet.yaml'}", f"--kubeconfig={KUBECONFIGS / 'kubelet.conf'}",
                              f"--root-dir={DATA / 'kubelet'}", f"--hostname-override={NODE_NAME}", f"--node-ip={NODE}"],
                  lambda: answers(f"http://{NODE}:10248/healthz")),
        Component("kube-proxy", ["kube-proxy", f"--config={CONFIG / 'kube-proxy.yaml'}", f"--hostname-override={NODE_NAME}"],
                  lambda: answers(f"http://{NODE}:10256/livez")),
        Component("kube-router", policy_enforcement(), lambda: answers(f"http://{NODE}:20245/metrics")),
    ]  # fmt: skip


def etcd() -> list[str]:
    return [
        "etcd",
        f"--name={NODE_NAME}",
        f"--data-dir={DATA / 'etcd'}",
        f"--advertise-client-urls=https://{NODE}:2379",
        f"--listen-client-urls=https://{NODE}:2379",
        f"--listen-peer-urls=https://{NODE}:2380",
        f"--listen-metrics-urls=http://{NODE}:2381",
        f"--initial-advertise-peer-urls=https://{NODE}:2380",
        f"--initial-cluster={NODE_NAME}=https://{NODE}:2380",
        "--client-cert-auth",
        f"--cert-file={PKI / 'etcd/server.crt'}",
        f"--key-file={PKI / 'etcd/server.key'}",
        f"--trusted-ca-file={PKI / 'etcd/ca.crt'}",
        "--peer-client-cert-auth",
        f"--peer-cert-file={PKI / 'etcd/peer.crt'}",
        f"--peer-key-file={PKI / 'etcd/peer.key'}",
        f"--peer-trusted-ca-file={PKI / 'etcd/ca.crt'}",
        "--snapshot-count=10000",
        "--logger=zap",
        "--log-level=warn",
    ]


def apiserver() -> list[str]:
    return [
        "kube-apiserver",
        f"--advertise-address={NODE}",
        f"--bind-address={NODE}",
        "--allow-privileged=true",
        "--authorization-mode=Node,RBAC",
        f"--client-ca-file={PKI / 'ca.crt'}",
        "--enable-admission-plugins=NodeRestriction",
        f"--etcd-servers=https://{NODE}:2379",
        f"--etcd-cafile={PKI / 'etcd/ca.crt'}",
        f"--etcd-certfile={PKI / 'apiserver-etcd-client.crt'}",
        f"--etcd-keyfile={PKI / 'apiserver-etcd-client.key'}",
        f"--kubelet-client-certificate={PKI / 'apiserver-kubelet-client.crt'}",
        f"--kubelet-client-key={PKI / 'apiserver-kubelet-client.key'}",
        "--kubelet-preferred-address-types=InternalIP",
        f"--proxy-client-cert-file={PKI / 'front-proxy-client.crt'}",
        f"--proxy-client-key-file={PKI / 'front-proxy-client.key'}",
        "--requestheader-allowed-names=front-proxy-client",
        f"--requestheader-client-ca-file={PKI / 'front-proxy-ca.crt'}",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-username-headers=X-Remote-User",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-account-key-file={PKI / 'sa.pub'}",
        f"--service-account-signing-key-file={PKI / 'sa.key'}",
        f"--service-cluster-ip-range={SERVICES}",
        f"--tls-cert-file={PKI / 'apiserver.crt'}",
        f"--tls-private-key-file={PKI / 'apiserver.key'}",
    ]


def controller_manager() -> list[str]:
    kubeconfig = KUBECONFIGS / "controller-manager.conf"
    return [
        "kube-controller-manager",
        f"--bind-address={NODE}",
        f"--kubeconfig={kubeconfig}",
        f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
        f"--client-ca-file={PKI / 'ca.crt'}",
        f"--cluster-signing-cert-file={PKI / 'ca.crt'}",
        f"--cluster-signing-key-file={PKI / 'ca.key'}",
        "--controllers=*,-node-ipam-controller,-node-route-controller,-cloud-node-lifecycle-controller",
        "--leader-elect=false",
        f"--requestheader-client-ca-file={PKI / 'front-proxy-ca.crt'}",
        f"--root-ca-file={PKI / 'ca.crt'}",
        f"--service-account-private-key-file={PKI / 'sa.key'}",
        "--use-service-account-credentials=true",
    ]


def scheduler() -> list[str]:
    kubeconfig = KUBECONFIGS / "scheduler.conf"
    return [
        "kube-scheduler",
        f"--bind-address={NODE}",
        f"--kubeconfig={kubeconfig}",
        f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
        "--leader-elect=false",
    ]


def policy_enforcement() -> list[str]:
    """Return the command of kube-router, with only the enforcement of network policies enabled."""
    return [
        "kube-router",
        "--run-firewall=true",
        "--run-loadbalancer=false",
        "--run-router=false",
        "--run-service-proxy=false",
        "--health-port=0",  # it would listen on every address of the machine
        f"--hostname-override={NODE_NAME}",
        f"--kubeconfig={KUBECONFIGS / 'kube-router.conf'}",
        f"--metrics-addr={NODE}",
        "--metrics-port=20245",
        f"--service-cluster-ip-range={SERVICES}",
    ]


def configurations(box: Toolbox) -> dict[str, str]:
    """Return the text of every configuration file by its name."""
    local = f'[host."http://{REGISTRY}"]\n  capabilities = ["pull", "resolve"]\n'
    mirrors = "".join(f'[registry."{upstream}"]\n  mirrors = ["{REGISTRY}"]\n' for upstream in MIRRORED)
    return {
        "containerd.toml": f"""\
version = 2
root = "{DATA / "containerd"}"
state = "{CONTAINERD_SOCKET.parent / "containerd"}"
[grpc]
  address = "{CONTAINERD_SOCKET}"
[plugins."io.containerd.internal.v1.opt"]
  path = "{DATA / "containerd-opt"}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{images.pause(box)}"
  # Machines without CAP_SYS_RESOURCE cannot lower a score; pods would never start.
  restrict_oom_score_adj = true
  # In our own folder, so that stopping finds them.
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{box.cni}"
    conf_dir = "{CONFIG / "cni"}"
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "{CONFIG / "registries"}"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = false
""",
        **{f"registries/{upstream}/hosts.toml": local for upstream in MIRRORED},
        "cni/10-estate.conflist": f"""\
{{"cniVersion": "0.4.0", "name": "estate", "plugins": [
  {{"type": "ptp", "ipam": {{"type": "host-local", "subnet": "{PODS}", "dataDir": "{DATA / "cni"}", "routes": [{{"dst": "0.0.0.0/0"}}]}}}}
]}}
""",
        "registry.yaml": f"""\
version: 0.1
log: {{level: warn, accesslog: {{disabled: true}}}}
storage:
  filesystem: {{rootdirectory: {DATA / "registry"}}}
  delete: {{enabled: true}}
http: {{addr: "{REGISTRY}"}}
""",
        "buildkitd.toml": f"""\
root = "{DATA / "buildkit"}"
[grpc]
  address = ["unix://{BUILDKIT_SOCKET}"]
[worker.oci]
  enabled = true
  binary = "runc"
  defaultCgroupParent = "estate/buildkit"
  gc = true
  maxUsedSpace = "10GB"
[worker.containerd]
  enabled = false
{mirrors}\
[registry."{REGISTRY}"]
  http = true
[registry."localhost:{REGISTRY.rpartition(":")[2]}"]
  http = true
""",
        "kubelet.yaml": f"""\
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: {NODE}
authentication: {{anonymous: {{enabled: false}}, webhook: {{enabled: true}}, x509: {{clientCAFile: {PKI / "ca.crt"}}}}}
authorization: {{mode: Webhook}}
cgroupDriver: cgroupfs
cgroupRoot: /estate
clusterDNS: [{SERVICES[10]}]
clusterDomain: cluster.local
containerRuntimeEndpoint: unix://{CONTAINERD_SOCKET}
# Absolute, because the size of a shared disk misleads, and percentages then evict pods with many GB free.
evictionHard: {{memory.available: 100Mi, nodefs.available: 1Gi, nodefs.inodesFree: 1%, imagefs.available: 1Gi}}
failCgroupV1: false
failSwapOn: false
healthzBindAddress: {NODE}
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
logging: {{verbosity: 1}}
nodeStatusUpdateFrequency: 10s
podLogsDir: {POD_LOGS}
readOnlyPort: 0
resolvConf: {CONFIG / "resolv.conf"}
rotateCertificates: false
shutdownGracePeriod: 0s
# Pods have the new content of a Secret within seconds; by default it takes a minute and more.
syncFrequency: 10s
staticPodPath: ""
tlsCertFile: {PKI / "kubelet.crt"}
tlsPrivateKeyFile: {PKI / "kubelet.key"}
volumePluginDir: {DATA / "kubelet-plugins"}
""",
        "kube-proxy.yaml": f"""\
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
bindAddress: {NODE}
clientConnection: {{kubeconfig: {KUBECONFIGS / "proxy.conf"}}}
clusterCIDR: {PODS}
# Left alone: these settings of the machine may be read-only, and are not ours to change.
conntrack: {{maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}}
healthzBindAddress: {NODE}:10256
metricsBindAddress: {NODE}:10249
mode: iptables
nodePortAddresses: [{NODE}/32]
iptables: {{localhostNodePorts: false}}
""",
        "resolv.conf": resolv_conf(Path("/etc/resolv.conf")),
    }


def resolv_conf(machine: Path) -> str:
    """Return the machine's name servers, except those on loopback, which a pod could not reach."""
    lines = machine.read_text().splitlines() if machine.exists() else []
    servers = [
        line for line in lines if line.startswith("nameserver") and not line.split()[1].startswith(("127.", "::1"))
    ]
    upstream = Path("/run/systemd/resolve/resolv.conf")
    if not servers and machine != upstream and upstream.exists():
        return resolv_conf(upstream)
    return "".join(f"{line}\n" for line in servers)


def answers(url: str) -> bool:
    """Return whether a GET is answered with 200. The certificate is not verified: only the response matters."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with urllib.request.urlopen(url, timeout=2, context=context) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False


def accepts(path: Path) -> bool:
    """Return whether a process accepts connections on a Unix socket."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(2)
        try:
            client.connect(str(path))
        except OSError:
            return False
    return True
