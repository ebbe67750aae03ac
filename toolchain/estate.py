"""`make up`, `down`, `preview`, `status`, `url` and `logs`: Pulumi on the right tools, cluster, state and secrets."""

import fcntl
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from infra.settings import GENERATED_SECRETS, SettingsError, StackSettings, load_stack
from toolchain.build import toolbox
from toolchain.cluster import __main__ as cluster
from toolchain.cluster import images, layout
from toolchain.cluster.pki import write_private
from toolchain.console import ToolchainError, run_command, say, step, wait_until
from toolchain.paths import PROJECT, STATE
from toolchain.standins import publish_missing

STACKS = PROJECT / "stacks"
OWN_STACKS = STATE / "stacks"
"""What this machine adds to a stack file: the salt of its passphrase and the generated secrets, encrypted."""
PASSPHRASE = STATE / "passphrase"
SECRETS_PROVIDER_KEYS = ("encryptionsalt", "encryptedkey", "secretsprovider")
ANSWER_DEADLINE_S = 120
POLICIES = ("--policy-pack", "policies")


@dataclass(frozen=True)
class Target:
    """Which Kubernetes, and the environment in which the tools work on it."""

    kubeconfig: Path
    context: str
    environment: dict[str, str]
    embedded: bool


def target() -> Target:
    """The embedded tools and cluster, or with TOOLS=system those that the machine has."""
    tools = os.environ.get("TOOLS", "embedded")
    if tools not in ("embedded", "system"):
        raise ToolchainError(f"TOOLS={tools} is not known: leave it out, or say TOOLS=system KUBE_CONTEXT=<context>")
    return embedded_target() if tools == "embedded" else system_target()


def embedded_target() -> Target:
    box = toolbox()
    if not box.folder.exists() or not layout.KUBECONFIG.exists():
        raise ToolchainError(
            "there is no embedded cluster yet: make up brings it up with the estate, make cluster alone"
        )
    own = images.environment(box) | {"PULUMI_HOME": str(box.pulumi_home)}
    environment = own | pulumi_environment(layout.KUBECONFIG, layout.CONTEXT)
    return Target(layout.KUBECONFIG, layout.CONTEXT, environment, embedded=True)


def system_target() -> Target:
    missing = [tool for tool in ("pulumi", "kubectl", "docker") if not shutil.which(tool)]
    context = os.environ.get("KUBE_CONTEXT", "")
    problems = [f"{tool} is not on PATH" for tool in missing]
    if not context:
        problems.append(
            "KUBE_CONTEXT is not set: name the context of the Kubernetes to use (kubectl config get-contexts)"
        )
    if problems:
        raise ToolchainError("TOOLS=system cannot work yet:\n" + "\n".join(f"  - {problem}" for problem in problems))
    kubeconfig = Path(os.environ.get("KUBECONFIG") or Path.home() / ".kube" / "config")
    found = subprocess.run(
        ["kubectl", f"--kubeconfig={kubeconfig}", f"--context={context}", "--request-timeout=10s", "get", "--raw=/readyz"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if found.returncode != 0:
        raise ToolchainError(
            f"the Kubernetes of context {context} in {kubeconfig} does not answer: {found.stderr.strip()}"
        )
    return Target(kubeconfig, context, os.environ | pulumi_environment(kubeconfig, context), embedded=False)


def pulumi_environment(kubeconfig: Path, context: str) -> dict[str, str]:
    """What Pulumi has to know of state, passphrase and cluster."""
    own = {
        "ESTATE_KUBECONFIG": str(kubeconfig),
        "ESTATE_KUBE_CONTEXT": context,
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "false",
    }
    backend = os.environ.get("BACKEND") or os.environ.get("PULUMI_BACKEND_URL")
    if not backend:
        (STATE / "pulumi").mkdir(parents=True, exist_ok=True, mode=0o700)
        # Without side files of metadata: a run that was killed left one empty, and the state unreadable.
        backend = f"file://{STATE / 'pulumi'}?metadata=skip"
    if "PULUMI_CONFIG_PASSPHRASE" not in os.environ and "PULUMI_CONFIG_PASSPHRASE_FILE" not in os.environ:
        if not PASSPHRASE.exists():
            write_private(PASSPHRASE, secrets.token_urlsafe(32))
        own["PULUMI_CONFIG_PASSPHRASE_FILE"] = str(PASSPHRASE)
    return own | {"PULUMI_BACKEND_URL": backend}


def leave_it_to_the_child(_signal: int, _frame: object) -> None:
    """Ctrl-C reaches the whole group: Pulumi ends by itself, and is waited for."""


@dataclass(frozen=True)
class Stack:
    """A stack of the project on a target."""

    name: str
    settings: StackSettings
    target: Target

    @property
    def file(self) -> Path:
        return STACKS / f"Pulumi.{self.name}.yaml"

    @property
    def namespace(self) -> str:
        return f"estate-{self.name}"

    def pulumi(self, *words: str, cwd: Path = PROJECT) -> subprocess.CompletedProcess[str]:
        """Run pulumi and keep what it prints."""
        command = ["pulumi", "--non-interactive", *words]
        return subprocess.run(
            command, env=self.target.environment, cwd=cwd, capture_output=True, text=True, check=False
        )

    def pulumi_shown(self, *words: str) -> None:
        """Run pulumi with its output for all to see; Ctrl-C reaches it, and it ends by itself.

        Raises:
            ToolchainError: it failed; it has said why.
        """
        command = ["pulumi", "--non-interactive", *words]
        before = signal.signal(signal.SIGINT, leave_it_to_the_child)
        try:
            code = subprocess.Popen(command, env=self.target.environment, cwd=PROJECT).wait()
        finally:
            signal.signal(signal.SIGINT, before)
        if code != 0:
            raise ToolchainError(
                f"pulumi {words[0]} failed (exit {code}): the lines above say why; the same command goes on from there"
            )

    def kubectl(self, *words: str) -> list[str]:
        """The command line of kubectl on the target."""
        return [
            "kubectl",
            f"--kubeconfig={self.target.kubeconfig}",
            f"--context={self.target.context}",
            f"--namespace={self.namespace}",
            *words,
        ]


def load(name: str) -> StackSettings:
    """The settings of a stack of this project.

    Raises:
        ToolchainError: there is no such stack, or its file is wrong; with what to do.
    """
    known = sorted(path.name.removeprefix("Pulumi.").removesuffix(".yaml") for path in STACKS.glob("Pulumi.*.yaml"))
    if name not in known:
        raise ToolchainError(
            f"there is no stack {name!r}: the stacks are {', '.join(known)} (stacks/Pulumi.<stack>.yaml)"
        )
    try:
        return load_stack(STACKS / f"Pulumi.{name}.yaml")
    except SettingsError as error:
        raise ToolchainError(str(error)) from error


@contextmanager
def only_one(name: str) -> Generator[None]:
    """Hold a stack's lock on this machine.

    Raises:
        ToolchainError: another make works on the stack.
    """
    OWN_STACKS.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (OWN_STACKS / f"{name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ToolchainError(f"another make works on stack {name}: wait for it to end, or end it") from None
        yield


def open_stack(name: str, settings: StackSettings) -> Stack:
    """The stack, made in the backend when it is not there, free of the lock of a run that was killed.

    Raises:
        ToolchainError: the backend refuses; with Pulumi's words.
    """
    stack = Stack(name, settings, target())
    own_project = OWN_STACKS / "Pulumi.yaml"
    if not own_project.exists():
        write_private(own_project, "name: estate\nruntime: python\n")
    release_lock(stack)
    if stack.pulumi("stack", "select", name, cwd=OWN_STACKS).returncode != 0:
        created = stack.pulumi("stack", "init", name, "--secrets-provider", "passphrase", cwd=OWN_STACKS)
        if created.returncode != 0:
            raise ToolchainError(
                f"stack {name} could not be made in {stack.target.environment['PULUMI_BACKEND_URL']}: {created.stderr.strip()}"
            )
    if not has_own_secrets_provider(stack.file):
        generate_secrets(stack)
    return stack


def read_yaml(file: Path) -> dict[str, Any]:
    """The table in a YAML file; an empty file is an empty table."""
    return yaml.safe_load(file.read_text()) or {}


def has_own_secrets_provider(file: Path) -> bool:
    """Whether a stack file brings its own encryption (a team's stack does)."""
    return any(key in read_yaml(file) for key in SECRETS_PROVIDER_KEYS)


def generate_secrets(stack: Stack) -> None:
    """Generate the stack's passwords that this machine does not have yet, encrypted by its passphrase."""
    file = OWN_STACKS / f"Pulumi.{stack.name}.yaml"
    present: dict[str, Any] = read_yaml(file).get("config", {}) if file.exists() else {}
    for key in GENERATED_SECRETS:
        if f"estate:{key}" in present:
            continue
        command = ["pulumi", "--non-interactive", "config", "set", "--secret", f"estate:{key}", "--stack", stack.name]
        # By standard input: arguments are for everybody to see.
        done = subprocess.run(
            command,
            input=secrets.token_urlsafe(24),
            env=stack.target.environment,
            cwd=OWN_STACKS,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise ToolchainError(f"the secret {key} could not be stored in {file}: {done.stderr.strip()}")


def effective_file(stack: Stack) -> Path:
    """The stack file for Pulumi: the project's, with this machine's salt and secrets where it has none of its own."""
    if has_own_secrets_provider(stack.file):
        return stack.file
    common = read_yaml(stack.file)
    own = read_yaml(OWN_STACKS / f"Pulumi.{stack.name}.yaml")
    merged = common | own | {"config": common.get("config", {}) | own.get("config", {})}
    file = OWN_STACKS / f"{stack.name}.yaml"
    write_private(file, yaml.safe_dump(merged))
    return file


def release_lock(stack: Stack) -> None:
    """Remove the lock of a Pulumi run that was killed on this machine; another's stays.

    Our own lock is held here, so a lock by a process of this machine that is gone is nobody's.
    """
    locks = STATE / "pulumi" / ".pulumi" / "locks" / "organization" / "estate" / stack.name
    for file in locks.glob("*.json"):
        holder = json.loads(file.read_text() or "{}")
        if holder.get("hostname") == os.uname().nodename and not Path(f"/proc/{holder.get('pid')}").exists():
            say(f"  released the lock of a run that was killed (process {holder.get('pid')})")
            end_orphans()
            file.unlink()


def end_orphans() -> None:
    """End the plugins of this toolbox that a killed Pulumi left behind; those that still have theirs go on."""
    box = toolbox()
    for process in Path("/proc").iterdir():
        try:
            program = (process / "exe").readlink()
            parent = (process / "stat").read_text().rpartition(")")[2].split()[1]
            orphan = Path(f"/proc/{parent}/comm").read_text().strip() != "pulumi"
        except OSError:  # no process, or no longer one
            continue
        is_plugin = program.is_relative_to(box.pulumi_home) or program == box.bin / "pulumi-language-python"
        if is_plugin and orphan:
            os.kill(int(process.name), signal.SIGTERM)


def on(stack: Stack) -> list[str]:
    """Options that name the stack and its configuration."""
    return ["--stack", stack.name, "--config-file", str(effective_file(stack))]


def clear_unfinished(stack: Stack) -> None:
    """Delete what a killed run was about to create, and clear it from the state.

    Pulumi does not know whether such an object exists; if it does, creating it again fails. Each was new, so nothing
    is lost with it: a volume's data belongs to its claim, which stays.
    """
    exported = stack.pulumi("stack", "export", "--stack", stack.name, cwd=OWN_STACKS)
    state: dict[str, Any] = json.loads(exported.stdout or "{}").get("deployment") or {}
    pending = [p["resource"] for p in state.get("pending_operations", ()) if p["type"] == "creating"]
    if not pending:
        return
    say(f"  {len(pending)} resources of a run that was killed are unfinished: they are made anew")
    finished = {resource["urn"] for resource in state.get("resources", ())}
    for resource in pending:
        if resource["urn"] not in finished and resource["type"].startswith("kubernetes:"):
            delete_object(stack, resource["type"], resource["inputs"])
    options = ["--yes", "--skip-preview", "--clear-pending-creates", "--suppress-outputs"]
    stack.pulumi_shown("refresh", *options, *on(stack))


def delete_object(stack: Stack, resource_type: str, inputs: dict[str, Any]) -> None:
    """Delete the object of a Kubernetes resource, if it is there.

    Args:
        stack: on whose cluster.
        resource_type: kubernetes:<group/version>:<kind>, as Pulumi calls it.
        inputs: of the resource.
    """
    _, group_version, kind = resource_type.split(":")
    group, _, version = group_version.rpartition("/")
    metadata = inputs["metadata"]
    within = [f"--namespace={metadata['namespace']}"] if "namespace" in metadata else []
    what = f"{kind}.{version}.{group.removeprefix('core')}".lower()
    ask(stack, "delete", what, metadata["name"], "--ignore-not-found", *within, limit_s=120)


@contextmanager
def settling(stack: Stack) -> Generator[list[str]]:
    """Options that an update needs, given how the last one ended.

    One that was killed, or that was on a cluster that is no more, has left a state that cannot be trusted: it is
    compared with the cluster first.
    """
    file = settled_file(stack)
    cluster_now = cluster_identity(stack)
    settled = file.exists() and file.read_text() == cluster_now
    file.unlink(missing_ok=True)
    if not settled:
        clear_unfinished(stack)
    yield [] if settled else ["--refresh"]
    file.write_text(cluster_now)


def settled_file(stack: Stack) -> Path:
    """Names the cluster on which the stack's last update ended well; absent when it did not."""
    return OWN_STACKS / f"{stack.name}.settled"


def cluster_identity(stack: Stack) -> str:
    """An id that a cluster has for life.

    Raises:
        ToolchainError: it does not answer.
    """
    return ask(stack, "get", "namespace", "kube-system", "-o", "jsonpath={.metadata.uid}")


def ask(stack: Stack, *words: str, limit_s: int = 10) -> str:
    """Output of kubectl on the stack's cluster.

    Raises:
        ToolchainError: it does not answer.
    """
    command = stack.kubectl(f"--request-timeout={limit_s}s", *words)
    done = subprocess.run(command, env=stack.target.environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ToolchainError(
            f"the cluster does not answer (make cluster starts the embedded one): {done.stderr.strip()}"
        )
    return done.stdout


def up(name: str) -> None:
    """Bring the estate up, then say where it answers."""
    settings = load(name)
    if os.environ.get("TOOLS", "embedded") == "embedded":
        cluster.start()
    with only_one(name):
        stack = open_stack(name, settings)
        if stack.target.embedded:
            with step("third-party images"):
                publish_missing(toolbox(), settings.image_references())
        with settling(stack) as refresh:
            stack.pulumi_shown("up", "--yes", "--skip-preview", "--suppress-outputs", *POLICIES, *refresh, *on(stack))
        show_urls(stack)


def down(name: str) -> None:
    """Remove everything of the stack; the cluster and the stack's secrets stay."""
    settings = load(name)
    with only_one(name):
        stack = open_stack(name, settings)
        settled_file(stack).unlink(missing_ok=True)
        stack.pulumi_shown("destroy", "--yes", "--skip-preview", "--refresh", *on(stack))


def preview(name: str) -> None:
    """Show what up would do."""
    settings = load(name)
    with only_one(name):
        stack = open_stack(name, settings)
        stack.pulumi_shown("preview", "--diff", *POLICIES, *on(stack))


def outputs(stack: Stack) -> dict[str, Any]:
    """The outputs of the stack's last up.

    Raises:
        ToolchainError: there was none.
    """
    done = stack.pulumi("stack", "output", "--json", "--stack", stack.name)
    found: dict[str, Any] = json.loads(done.stdout or "{}") if done.returncode == 0 else {}
    if "urls" not in found:
        raise ToolchainError(f"stack {stack.name} is not up: make up STACK={stack.name}")
    return found


def url(name: str, of: str) -> None:
    """Print one of the stack's URLs."""
    urls = outputs(Stack(name, load(name), target()))["urls"]
    if of not in urls:
        raise ToolchainError(f"stack {name} has no URL of {of!r}: it has {', '.join(sorted(urls))}")
    say(urls[of])


def show_urls(stack: Stack) -> None:
    """Print the URLs and a line to paste, once the estate answers through the Ingress."""
    found = outputs(stack)["urls"]
    gateway = httpx.URL(found["gateway"])
    resolve = trust = ""
    if stack.target.embedded:
        with step("first answer through the Ingress"):
            wait_until(lambda: answers_through_ingress(gateway), f"an answer of {gateway}/health", ANSWER_DEADLINE_S)
        resolve, trust = f" --resolve {gateway.host}:{gateway.port}:127.0.0.1", f" --cacert {layout.CA_CERTIFICATE}"
    say(f"\nEstate {stack.name} is up:")
    for of, address in sorted(found.items()):
        say(f"  {of:<11} {address}")
    if resolve:
        hosts = " ".join(sorted({httpx.URL(address).host for address in found.values()}))
        say(f"For a browser, add to /etc/hosts: 127.0.0.1 {hosts}")
    say("Try it:")
    say(
        f'  curl{trust}{resolve} -H \'Content-Type: application/json\' -d \'{{"name": "Ada", "email": "ada@example.com", "age": 36}}\' {gateway}/api/v1/users'
    )


def answers_through_ingress(gateway: httpx.URL) -> bool:
    """Whether the gateway's health answers 200 by its public name on this machine's loopback."""
    request: dict[str, Any] = {"headers": {"Host": gateway.host}, "extensions": {"sni_hostname": gateway.host}}
    address = gateway.copy_with(host="127.0.0.1", path="/health")
    try:
        with httpx.Client(verify=ingress_trust(), timeout=5) as client:
            return client.get(address, **request).status_code == 200
    except httpx.HTTPError:
        return False


def ingress_trust() -> Any:
    """A TLS context that trusts the local CA of the Ingress and nothing else."""
    import ssl

    return ssl.create_default_context(cafile=str(layout.CA_CERTIFICATE))


def status(name: str) -> None:
    """Print what runs, how much of it is ready, and the URLs.

    Raises:
        ToolchainError: something is not ready.
    """
    stack = Stack(name, load(name), target())
    command = stack.kubectl("--request-timeout=10s", "get", "statefulsets,deployments", "-o", "json")
    done = subprocess.run(command, env=stack.target.environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ToolchainError(
            f"the cluster does not answer (make cluster starts the embedded one): {done.stderr.strip()}"
        )
    items = json.loads(done.stdout)["items"]
    urls = outputs(stack)["urls"]
    unready: list[str] = []
    for item in items:
        ready, wanted = item["status"].get("readyReplicas", 0), item["spec"]["replicas"]
        image = item["spec"]["template"]["spec"]["containers"][0]["image"]
        say(f"  {item['metadata']['name']:<14} {ready}/{wanted} ready  {image.replace('@sha256:', '@')[:90]}")
        if ready < wanted:
            unready.append(item["metadata"]["name"])
    for of, address in sorted(urls.items()):
        say(f"  {of:<14} {address}")
    if unready or not items:
        raise ToolchainError(
            f"not ready: {', '.join(unready) or 'nothing runs'}: make logs APP=<name> STACK={name}, or make up STACK={name}"
        )


def logs(name: str, app: str) -> None:
    """Follow the logs of every pod of an app, until Ctrl-C."""
    stack = Stack(name, load(name), target())
    command = stack.kubectl(
        "logs",
        "--follow",
        "--prefix",
        "--tail=100",
        "--max-log-requests=20",
        f"--selector=app.kubernetes.io/name={app}",
    )
    os.execvpe("kubectl", command, stack.target.environment)


COMMANDS: dict[str, Callable[..., None]] = {
    "up": up,
    "down": down,
    "preview": preview,
    "status": status,
    "url": url,
    "logs": logs,
}


def main() -> None:
    if len(sys.argv) < 3 or sys.argv[1] not in COMMANDS:
        raise ToolchainError(f"usage: python -m toolchain.estate {'|'.join(COMMANDS)} STACK [NAME]")
    started = time.monotonic()
    COMMANDS[sys.argv[1]](*sys.argv[2:])
    if sys.argv[1] in ("up", "down"):
        say(f"({time.monotonic() - started:.0f} s)")


if __name__ == "__main__":
    run_command(main)
