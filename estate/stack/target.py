"""Selection of the tools, state and Kubernetes that the commands use: the embedded ones, or the machine's own."""

import os
import secrets
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from estate import UV_OPTIONS
from estate.cluster import images, layout, tools
from estate.cluster.pki import write_private
from estate.core.console import EstateError, UsageError
from estate.core.environment import CONTEXT, EMBEDDED, SYSTEM, TARGET, uv
from estate.core.paths import STATE
from infra.settings.images import STAND_INS

PASSPHRASE = STATE / "passphrase"
KEEP_BYTECODE = {"PYTHONDONTWRITEBYTECODE": ""}
"""Environment variable that enables bytecode caching: without it, on a machine that disables it, every run of the program and the policies
recompiles Pulumi's SDKs, which adds seconds to each preview."""


@dataclass(frozen=True)
class Target:
    """A Kubernetes cluster, and the environment of the tools that work on it."""

    kubeconfig: Path
    context: str
    environment: dict[str, str]
    embedded: bool


def target() -> Target:
    """Return the embedded tools and cluster, or the machine's own with ESTATE_TARGET=system."""
    return embedded_target() if embedded() else system_target()


def embedded() -> bool:
    """Return whether to use the embedded tools, not the machine's own.

    Raises:
        UsageError: the target is unknown, or a context is given with the embedded tools.
    """
    wanted = os.environ.get(TARGET) or EMBEDDED
    if wanted == EMBEDDED and os.environ.get(CONTEXT):
        raise UsageError(
            f"--context {os.environ[CONTEXT]} ({CONTEXT}) is for --target {SYSTEM}, and the embedded tools work on their own cluster alone: "
            f"add --target {SYSTEM}, or leave the context out"
        )
    if wanted not in (EMBEDDED, SYSTEM):
        raise UsageError(
            f"--target {wanted} ({TARGET}) is unknown: it is {EMBEDDED}, or {SYSTEM} with --context <context>"
        )
    return wanted == EMBEDDED


def embedded_target() -> Target:
    if not layout.KUBECONFIG.exists():
        raise EstateError(
            "there is no embedded cluster yet: make up brings it up with the estate, estate cluster start alone"
        )
    box = tools.at_hand()
    own = images.environment(box) | {"PULUMI_HOME": str(box.pulumi_home)}
    environment = (
        own | pulumi_environment(layout.KUBECONFIG, layout.CONTEXT) | {STAND_INS: str(STATE / "stand-ins.json")}
    )
    return Target(layout.KUBECONFIG, layout.CONTEXT, with_uv(environment), embedded=True)


def system_target() -> Target:
    missing = [tool for tool in ("pulumi", "kubectl", "docker") if not shutil.which(tool)]
    context = os.environ.get(CONTEXT, "")
    problems = [f"{tool} is not on PATH" for tool in missing]
    if not context:
        problems.append(
            f"--context ({CONTEXT}) is not given: name the context of the Kubernetes to use (kubectl config get-contexts)"
        )
    if problems:
        raise EstateError(f"--target {SYSTEM} cannot work yet:\n" + "\n".join(f"  - {problem}" for problem in problems))
    kubeconfig = Path(os.environ.get("KUBECONFIG") or Path.home() / ".kube" / "config")
    found = subprocess.run(
        ["kubectl", f"--kubeconfig={kubeconfig}", f"--context={context}", "--request-timeout=10s", "get", "--raw=/readyz"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if found.returncode != 0:
        raise EstateError(
            f"the Kubernetes of context {context} in {kubeconfig} does not answer: {found.stderr.strip()}"
        )
    environment = os.environ | pulumi_environment(kubeconfig, context)
    return Target(kubeconfig, context, with_uv(environment), embedded=False)


def with_uv(environment: dict[str, str]) -> dict[str, str]:
    """Return the environment with uv on PATH for Pulumi."""
    return environment | {"PATH": f"{environment['PATH']}:{uv().parent}"}


def pulumi_environment(kubeconfig: Path, context: str) -> dict[str, str]:
    """Return the environment variables with Pulumi's state backend, passphrase and cluster."""
    own = {
        "KUBECONFIG": str(kubeconfig),
        "ESTATE_KUBE_CONTEXT": context,
        **KEEP_BYTECODE,
        **UV_OPTIONS,
        "PULUMI_FALLBACK_TO_STATE_SECRETS_MANAGER": "true",  # a stack file without a salt uses that of the state, not a new one
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        "PULUMI_DEBUG_COMMANDS": "true",  # required for the option --event-log; the Automation API does the same
        "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "false",
    }
    backend = os.environ.get("PULUMI_BACKEND_URL")
    if not backend:
        (STATE / "pulumi").mkdir(parents=True, exist_ok=True, mode=0o700)
        # Without metadata files: a run that was killed left one empty, which made the state unreadable.
        backend = f"file://{STATE / 'pulumi'}?metadata=skip"
    if "PULUMI_CONFIG_PASSPHRASE" not in os.environ and "PULUMI_CONFIG_PASSPHRASE_FILE" not in os.environ:
        if not PASSPHRASE.exists():
            write_private(PASSPHRASE, secrets.token_urlsafe(32))
        own["PULUMI_CONFIG_PASSPHRASE_FILE"] = str(PASSPHRASE)
    return own | {"PULUMI_BACKEND_URL": backend}
