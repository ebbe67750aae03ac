"""A stack of the project: its settings, its secrets, and Pulumi run on it."""

import fcntl
import json
import secrets
import signal
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from infra.settings import SettingsError, StackSettings, load_stack
from infra.values import stack_name
from toolchain import standins
from toolchain.cluster.pki import write_private
from toolchain.console import ToolchainError
from toolchain.paths import PROJECT, STATE
from toolchain.target import Target, target

STACKS = PROJECT / "stacks"
OWN_STACKS = STATE / "stacks"
"""What this machine adds to a stack file: the salt of its passphrase and the generated secrets, encrypted."""
SECRETS_PROVIDER_KEYS = ("encryptionsalt", "encryptedkey", "secretsprovider")


@dataclass(frozen=True)
class Stack:
    """A stack of the project on a target."""

    name: str
    settings: StackSettings
    target: Target
    overrides: dict[str, Any] = field(default_factory=dict[str, Any])
    """Settings for this run, over those in the stack file."""

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


def leave_it_to_the_child(_signal: int, _frame: object) -> None:
    """Ctrl-C reaches the whole group: Pulumi ends by itself, and is waited for."""


def load(name: str) -> StackSettings:
    """The settings of a stack of this project.

    Raises:
        ToolchainError: there is no such stack, or its file is wrong; with what to do.
    """
    try:
        stack_name(name)
    except ValueError as error:
        raise ToolchainError(f"{name!r} is no name of a stack: it {error}, such as STACK=dev") from error
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
    """The stack, made in the backend with its secrets when it is not there.

    Raises:
        ToolchainError: the backend refuses; with Pulumi's words.
    """
    stack = Stack(name, settings, target())
    own_project = OWN_STACKS / "Pulumi.yaml"
    if not own_project.exists():
        write_private(own_project, "name: estate\nruntime: python\n")
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
    present = stored_secrets(stack)
    for key in stack.settings.generated_secrets:
        if key not in present:
            store_secret(stack, key, secrets.token_urlsafe(32))


def secrets_file(stack: Stack) -> Path:
    """Where the stack's secrets are: in its own file, or on this machine."""
    return stack.file if has_own_secrets_provider(stack.file) else OWN_STACKS / f"Pulumi.{stack.name}.yaml"


def stored_secrets(stack: Stack) -> set[str]:
    """Names of everything that is stored where the stack's secrets are."""
    file = secrets_file(stack)
    found: dict[str, Any] = read_yaml(file).get("config", {}) if file.exists() else {}
    return {key.removeprefix("estate:") for key in found}


def store_secret(stack: Stack, key: str, value: str) -> None:
    """Store one of the stack's secrets, encrypted.

    Raises:
        ToolchainError: Pulumi refuses; with its words.
    """
    # By standard input: arguments are for everybody to see.
    change_secret(stack, ["set", "--secret", f"estate:{key}"], f"the secret {key} could not be stored", value)


def remove_secret(stack: Stack, key: str) -> None:
    """Remove one of the stack's secrets, if it is there.

    Raises:
        ToolchainError: Pulumi refuses; with its words.
    """
    change_secret(stack, ["rm", f"estate:{key}"], f"the secret {key} could not be removed")


def change_secret(stack: Stack, words: list[str], failed: str, value: str = "") -> None:
    """Run `pulumi config` on where the stack's secrets are.

    Args:
        stack: whose they are.
        words: what to do.
        failed: what has not happened if it fails.
        value: for its standard input.

    Raises:
        ToolchainError: it failed.
    """
    file = secrets_file(stack)
    done = subprocess.run(
        ["pulumi", "--non-interactive", "config", *words, "--stack", stack.name, "--config-file", str(file)],
        input=value,
        env=stack.target.environment,
        cwd=PROJECT if file == stack.file else OWN_STACKS,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise ToolchainError(f"{failed} ({file}): {done.stderr.strip()}")


def secret(stack: Stack, key: str) -> str:
    """One of the stack's secrets.

    Raises:
        ToolchainError: it has none of this name, or it cannot be decrypted here.
    """
    done = stack.pulumi("config", "get", f"estate:{key}", *on(stack))
    if done.returncode != 0:
        raise ToolchainError(f"the secret {key} of stack {stack.name} cannot be read: {done.stderr.strip()}")
    return done.stdout.strip()


def effective_file(stack: Stack) -> Path:
    """The stack file for Pulumi: the project's, with this machine's salt and secrets where it has none of its own.

    Stand-ins are in it by digest: a tag of theirs names something else on each machine.
    """
    complete = has_own_secrets_provider(stack.file)
    overrides = stand_ins(stack) | stack.overrides
    if complete and not overrides:
        return stack.file
    common = read_yaml(stack.file)
    own = {} if complete else read_yaml(OWN_STACKS / f"Pulumi.{stack.name}.yaml")
    config: dict[str, Any] = common.get("config", {}) | own.get("config", {})
    config["estate:settings"] = config["estate:settings"] | overrides
    merged = common | own | {"config": config}
    file = OWN_STACKS / f"{stack.name}.yaml"
    write_private(file, yaml.safe_dump(merged))
    return file


def stand_ins(stack: Stack) -> dict[str, Any]:
    """Settings that name the third-party images by what this machine has in their place."""
    if not stack.target.embedded:
        return {}
    given = stack.settings.images.model_dump(exclude_none=True)
    return {"images": {name: standins.pinned(reference) for name, reference in given.items()}}


def with_images(stack: Stack, digests: dict[str, str]) -> Stack:
    """The stack with our services by these images, whatever its file says."""
    settings = stack.settings.model_copy(update={"build": False, "digests": digests})
    return replace(stack, settings=settings, overrides={"build": False, "digests": digests})


def on(stack: Stack) -> list[str]:
    """Options that name the stack and its configuration."""
    return ["--stack", stack.name, "--config-file", str(effective_file(stack))]


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


def ask(stack: Stack, *words: str, limit_s: int = 10, given: str | None = None) -> str:
    """Output of kubectl on the stack's cluster.

    Args:
        stack: whose cluster and namespace.
        words: of the command.
        limit_s: seconds that a request may take; 0 is no limit.
        given: its standard input, for `--filename=-`.

    Raises:
        ToolchainError: it does not answer.
    """
    command = stack.kubectl(f"--request-timeout={limit_s}s", *words)
    done = subprocess.run(
        command, input=given, env=stack.target.environment, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise ToolchainError(
            f"the cluster does not answer (make cluster starts the embedded one): {done.stderr.strip()}"
        )
    return done.stdout
