"""Rules about pods: their security context, resources, probes, images and secrets."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Annotated, Any

from policies.resources import SERVERS, UNKNOWN, Resource, at, containers, each, images, template


@dataclass(frozen=True)
class Setting:
    """A field and its allowed values under the Pod Security Standard `restricted`."""

    path: str
    allowed: tuple[Any, ...]
    problem: str
    """Description of a pod or container with another value."""

    def is_broken_by(self, value: Any) -> bool:
        return value is not UNKNOWN and value not in self.allowed

    @property
    def remedy(self) -> str:
        """Return the remedy; a field that may be absent is best left out."""
        if None in self.allowed:
            return f"take {self.path} out"
        return (
            f"set {self.path}: {str(self.allowed[0]).lower() if isinstance(self.allowed[0], bool) else self.allowed[0]}"
        )


POD = (
    Setting("hostNetwork", (None, False), "is on the node's network"),
    Setting("hostPID", (None, False), "sees the node's processes"),
    Setting("hostIPC", (None, False), "shares the node's memory between processes"),
    Setting("securityContext.windowsOptions.hostProcess", (None, False), "runs on a Windows node itself"),
)
CONTAINER = (
    Setting("securityContext.privileged", (None, False), "is privileged"),
    Setting("securityContext.allowPrivilegeEscalation", (False,), "may gain privileges"),
    Setting("securityContext.readOnlyRootFilesystem", (True,), "can write its own image"),
    Setting("securityContext.procMount", (None, "Default"), "sees all of /proc"),
    Setting("securityContext.windowsOptions.hostProcess", (None, False), "runs on a Windows node itself"),
    *(
        Setting(f"{asking}.{how}.host", (None, ""), "has the node ask another host")
        for asking in ("readinessProbe", "livenessProbe", "startupProbe", "lifecycle.postStart", "lifecycle.preStop")
        for how in ("httpGet", "tcpSocket")
    ),
)
NON_ROOT = Setting("securityContext.runAsNonRoot", (True,), "may run as root")
EITHER = (
    NON_ROOT,
    Setting("securityContext.seccompProfile.type", ("RuntimeDefault", "Localhost"), "may make any system call"),
    Setting(
        "securityContext.appArmorProfile.type", (None, "RuntimeDefault", "Localhost"), "is not confined by AppArmor"
    ),
    Setting(
        "securityContext.seLinuxOptions.type",
        (None, "", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"),
        "has an SELinux type of its own",
    ),
    Setting("securityContext.seLinuxOptions.user", (None, ""), "has an SELinux user of its own"),
    Setting("securityContext.seLinuxOptions.role", (None, ""), "has an SELinux role of its own"),
)
"""Settings of a container, or of its pod if the container does not set them."""
VOLUMES = {
    "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret",
}  # fmt: skip
SYSCTLS = {
    "kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start", "net.ipv4.ping_group_range", "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl", "net.ipv4.tcp_keepalive_probes", "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_rmem", "net.ipv4.tcp_syncookies", "net.ipv4.tcp_wmem",
}  # fmt: skip
ADDED_CAPABILITY = "NET_BIND_SERVICE"


def restricted_pods(
    resource: Resource,
    log_readers: Annotated[Sequence[str], "Names of the workloads that read their node's logs, as root"] = (),
    log_folders: Annotated[Sequence[str], "Patterns of the node's folders that these may read"] = ("/var/log/*",),
) -> Iterator[str]:
    """Require a read-only root file system, and Pod Security `restricted` (https://kubernetes.io/docs/concepts/security/pod-security-standards/)."""
    pod = at(template(resource), "spec")
    folders = log_folders if resource.name in log_readers else ()
    for setting in POD:
        if setting.is_broken_by(at(pod, *setting.path.split("."))):
            yield f"{setting.problem}: {setting.remedy}"
    for volume in each(pod, "volumes"):
        if may_be_read(volume, folders):
            yield from writers(resource, at(volume, "name"))
            continue
        for source in sorted(set(volume) - VOLUMES - {"name"}):
            yield f"volume {at(volume, 'name')} is of type {source}: take one of {', '.join(sorted(VOLUMES))}"
    for sysctl in each(pod, "securityContext", "sysctls"):
        name = at(sysctl, "name")
        if name is not UNKNOWN and name not in SYSCTLS:
            yield f"sets {name}, which is the node's: take it out of securityContext.sysctls"
    for container in containers(resource):
        for problem in container_problems(pod, container, may_be_root=bool(folders)):
            yield f"container {at(container, 'name')} {problem}"


def may_be_read(volume: Any, folders: Sequence[str]) -> bool:
    """Return whether a volume is a folder of the node, and matches one of the patterns."""
    path = at(volume, "hostPath", "path")
    return bool(folders) and (path is UNKNOWN or is_like(path, folders))


def writers(resource: Resource, volume: Any) -> Iterator[str]:
    """Yield a problem for each container that may write a volume which is only for reading."""
    for container in containers(resource):
        for mount in each(container, "volumeMounts"):
            if at(mount, "name") == volume and at(mount, "readOnly") not in (True, UNKNOWN):
                yield f"container {at(container, 'name')} can write files of the node: set volumeMounts[].readOnly: true"


def container_problems(pod: Any, container: Any, *, may_be_root: bool) -> Iterator[str]:
    """Yield a problem for each thing that a container may do under its pod's and its own security context, and should not."""
    for setting in (*CONTAINER, *(one for one in EITHER if one is not NON_ROOT or not may_be_root)):
        path = setting.path.split(".")
        value = at(container, *path)
        if value is None and setting in EITHER:
            value = at(pod, *path)
        if setting.is_broken_by(value):
            yield f"{setting.problem}: {setting.remedy}"
    user = at(container, "securityContext", "runAsUser")
    if (at(pod, "securityContext", "runAsUser") if user is None else user) == 0 and not may_be_root:
        yield "runs as root: set securityContext.runAsUser to the image's own user"
    dropped = at(container, "securityContext", "capabilities", "drop")
    if dropped is not UNKNOWN and "ALL" not in (dropped or ()) and UNKNOWN not in (dropped or ()):
        yield "keeps capabilities: set securityContext.capabilities.drop: [ALL]"
    for capability in each(container, "securityContext", "capabilities", "add"):
        if capability != ADDED_CAPABILITY:
            yield f"has the capability {capability}: take it out of securityContext.capabilities.add"
    for port in each(container, "ports"):
        if at(port, "hostPort") not in (None, 0, UNKNOWN):
            yield f"takes port {at(port, 'hostPort')} of the node: take ports[].hostPort out, a Service reaches it"


def bounded_resources(resource: Resource) -> Iterator[str]:
    """Require requests and limits: a container without bounds takes its neighbours down with it."""
    for container in containers(resource):
        for bound in ("requests", "limits"):
            for quantity in ("cpu", "memory"):
                if at(container, "resources", bound, quantity) is None:
                    yield f"container {at(container, 'name')} has no {bound}.{quantity}: set resources.{bound}.{quantity}"


def probed_containers(resource: Resource) -> Iterator[str]:
    """Require probes: without them, containers that are not ready get requests, and those that hang are never restarted (https://kubernetes.io/docs/concepts/configuration/liveness-readiness-startup-probes/)."""
    if resource.type not in SERVERS:
        return
    for container in each(template(resource), "spec", "containers"):
        for probe, purpose in (("readinessProbe", "gets requests before it is ready"), ("livenessProbe", "may hang")):
            if at(container, probe) is None:
                yield f"container {at(container, 'name')} {purpose}: set {probe}"


def no_token_by_default(resource: Resource) -> Iterator[str]:
    """Forbid tokens of the Kubernetes API by default: a token that is not used can still be stolen (CIS Kubernetes Benchmark 5.1.6)."""
    pod = at(template(resource), "spec")
    if pod is not None and at(pod, "automountServiceAccountToken") not in (False, UNKNOWN):
        yield "mounts a token of the Kubernetes API: set automountServiceAccountToken: false"


def images_by_digest(resource: Resource) -> Iterator[str]:
    """Require images by digest: a tag may move; a digest names what was tested (CIS Kubernetes Benchmark 5.5.1, NIST SP 800-190 4.1.5)."""
    for who, image in images(resource):
        if "@sha256:" not in image:
            yield f"{who} runs {image} by a tag: name it by digest, {image}@sha256:…"


def allowed_registries(
    resource: Resource,
    registries: Annotated[Sequence[str], "Registries, or the beginning of repositories: ghcr.io, docker.io/library"] = (
        "docker.io",
        "ghcr.io",
        "quay.io",
        "registry.k8s.io",
    ),
) -> Iterator[str]:
    """Require images from registries that are maintained (NIST SP 800-190 4.2.1)."""
    for who, image in images(resource):
        if not any(f"{repository(image)}/".startswith(f"{allowed}/") for allowed in registries):
            yield f"{who} runs {image} from elsewhere than {', '.join(registries)}: allow its registry in allowed-registries.registries, or take another image"


def repository(image: str) -> str:
    """Return the full repository of a reference: `redis:7` is docker.io/library/redis."""
    named = image.partition("@")[0]
    path, _, tag = named.rpartition(":")
    named = path if path and "/" not in tag else named
    host, _, rest = named.partition("/")
    if rest and ("." in host or ":" in host or host == "localhost"):
        return named
    return f"docker.io/{named}" if rest else f"docker.io/library/{named}"


NO_SECRETS = ("", "true", "false")
"""Values that are never secrets, whatever the name of their variable, such as a switch for passing tokens on."""


def secrets_in_files(
    resource: Resource,
    names: Annotated[Sequence[str], "Patterns of variables that hold secrets"] = ("*PASSWORD*", "*SECRET*", "*TOKEN*"),
    harmless: Annotated[Sequence[str], "Patterns of those that only say where one is"] = ("*_FILE", "*_PATH", "*_URL"),
) -> Iterator[str]:
    """Forbid secrets in the environment, which every child, crash report and `kubectl describe` gets, unlike files (CIS Kubernetes Benchmark 5.4.1)."""
    for container in containers(resource):
        who = f"container {at(container, 'name')}"
        for entry in each(container, "env"):
            name = at(entry, "name")
            if at(entry, "valueFrom", "secretKeyRef") not in (None, UNKNOWN):
                yield f"{who} has a Secret in its environment as {name}: mount the Secret as a file"
            elif (
                at(entry, "value") not in (None, UNKNOWN, *NO_SECRETS)
                and is_like(name, names)
                and not is_like(name, harmless)
            ):
                yield f"{who} has what looks like a secret in its environment as {name}: mount a Secret as a file"
        for source in each(container, "envFrom"):
            if at(source, "secretRef") not in (None, UNKNOWN):
                yield f"{who} has a whole Secret in its environment: mount the Secret as files in place of envFrom"


def is_like(name: Any, patterns: Sequence[str]) -> bool:
    """Return whether a name matches one of the patterns, in whatever case."""
    return isinstance(name, str) and any(fnmatch(name.upper(), pattern.upper()) for pattern in patterns)
