"""A stack of the project: its settings, its secrets, and Pulumi run on it."""

import fcntl
import json
import signal
import subprocess
import uuid
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from infra import generated_secrets
from infra.generated_secrets import Step
from infra.settings import STAND_INS, SettingsError, StackSettings, load_stack
from infra.values import stack_name
from toolchain import standins
from toolchain.cluster.pki import write_private
from toolchain.console import ToolchainError
from toolchain.paths import PROJECT, STATE
from toolchain.target import Target, target

STACKS = PROJECT / "stacks"
OWN_STACKS = STATE / "stacks"
"""Folder with what this machine adds to stack files: the salt of its passphrase, and secrets that were given, encrypted."""
NO_STACK = "no stack named"
"""Pulumi's word for a stack that its backend does not have."""
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

    def pulumi(self, *words: str, cwd: Path = PROJECT, given: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run pulumi and keep what it prints.

        Args:
            words: of the command.
            cwd: where it runs.
            given: its standard input.
        """
        command = ["pulumi", "--non-interactive", *words]
        return subprocess.run(
            command, input=given, env=self.target.environment, cwd=cwd, capture_output=True, text=True, check=False
        )

    def pulumi_shown(self, *words: str) -> None:
        """Run pulumi with its output for all to see; Ctrl-C reaches it, and it ends by itself.

        Raises:
            KeyboardInterrupt: Ctrl-C has ended it.
            ToolchainError: it failed; it has said why.
        """
        command = ["pulumi", "--non-interactive", *words]
        interrupts: list[int] = []
        # Ctrl-C reaches the whole group: Pulumi ends by itself, and is waited for.
        before = signal.signal(signal.SIGINT, lambda number, _frame: interrupts.append(number))
        try:
            code = subprocess.Popen(command, env=self.target.environment, cwd=PROJECT).wait()
        finally:
            signal.signal(signal.SIGINT, before)
        if code != 0 and interrupts:
            raise KeyboardInterrupt
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


class NotUpError(ToolchainError):
    """A stack that was never brought up, or is not there any more."""

    def __init__(self, name: str) -> None:
        super().__init__(f"stack {name} is not up: make up STACK={name}")


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
    return stack


def read_yaml(file: Path) -> dict[str, Any]:
    """The table in a YAML file; an empty file is an empty table."""
    return yaml.safe_load(file.read_text()) or {}


def has_own_secrets_provider(file: Path) -> bool:
    """Whether a stack file brings its own encryption (a team's stack does)."""
    return any(key in read_yaml(file) for key in SECRETS_PROVIDER_KEYS)


def store_secret(stack: Stack, key: str, value: str) -> None:
    """Store a secret that is given in the stack's configuration, encrypted.

    Raises:
        ToolchainError: Pulumi refuses; with its words.
    """
    # By standard input: arguments are for everybody to see.
    done = stack.pulumi("config", "set", "--secret", f"estate:{key}", "--stack", stack.name, given=value)
    if done.returncode != 0:
        raise ToolchainError(f"the secret {key} could not be stored in {stack.file}: {done.stderr.strip()}")


def secret(stack: Stack, key: str) -> str:
    """Return one of the stack's secrets: generated, or given.

    Raises:
        ToolchainError: it has none of this name, or it cannot be decrypted here.
    """
    if key not in stack.settings.given_secrets and (value := generated(stack).get(key)):
        return value
    done = stack.pulumi("config", "get", f"estate:{key}", *on(stack))
    if done.returncode != 0:
        raise ToolchainError(f"the secret {key} of stack {stack.name} cannot be read: {done.stderr.strip()}")
    return done.stdout.strip()


def generated(stack: Stack) -> dict[str, str]:
    """Return the secrets that the program has generated, by name; none before the first update.

    Raises:
        ToolchainError: the state cannot be read, or decrypted here; with Pulumi's words.
    """
    resources = state_of(stack, "--show-secrets").get("resources", ())
    found = [one["outputs"]["values"] for one in resources if one["type"] == generated_secrets.TYPE]
    return json.loads(found[0]["plaintext"]) if found else {}


def state_of(stack: Stack, *options: str) -> dict[str, Any]:
    """Return the stack's state, which is empty before its first update.

    Raises:
        ToolchainError: there is no such stack, or its state cannot be read; with Pulumi's words.
    """
    return json.loads(read(stack, "export", *options))["deployment"] or {}


def read(stack: Stack, *words: str) -> str:
    """Return what `pulumi stack` prints of a stack that the backend has.

    Raises:
        NotUpError: it has none of this name.
        ToolchainError: it cannot be read; with Pulumi's words.
    """
    done = stack.pulumi("stack", *words, "--stack", stack.name)
    if done.returncode == 0:
        return done.stdout
    if NO_STACK in done.stderr:
        raise NotUpError(stack.name)
    raise ToolchainError(f"stack {stack.name} cannot be read: {done.stderr.strip()}")


def with_change(stack: Stack, *steps: Step) -> Stack:
    """Return the stack with a change of its generated secrets, which its next update makes."""
    change = {generated_secrets.CHANGE: json.dumps({"id": str(uuid.uuid4()), "steps": steps})} if steps else {}
    return replace(stack, target=replace(stack.target, environment=stack.target.environment | change))


def effective_file(stack: Stack) -> Path:
    """Return the stack file for Pulumi: the project's, with what this machine adds: its salt, and settings for this run."""
    own_file = OWN_STACKS / f"Pulumi.{stack.name}.yaml"
    own = read_yaml(own_file) if own_file.exists() and not has_own_secrets_provider(stack.file) else {}
    if not own and not stack.overrides:
        return stack.file
    common = read_yaml(stack.file)
    config: dict[str, Any] = common.get("config", {}) | own.get("config", {})
    config["estate:settings"] = config["estate:settings"] | stack.overrides
    file = OWN_STACKS / f"{stack.name}.yaml"
    # JSON is YAML that readers do not differ on: PyYAML takes the quotes from texts that are numbers to Pulumi.
    write_private(file, json.dumps(common | own | {"config": config}))
    return file


def forget_taken_over(stack: Stack) -> None:
    """Take out of this machine's file what the state has taken over from it: secrets that make generated, once."""
    file = OWN_STACKS / f"Pulumi.{stack.name}.yaml"
    own = read_yaml(file) if file.exists() else {}
    taken = {f"estate:{name}" for name in stack.settings.generated_secrets}
    config: dict[str, Any] = own.get("config", {})
    if taken & config.keys():
        write_private(file, json.dumps(own | {"config": {key: config[key] for key in config.keys() - taken}}))


def write_stand_ins(stack: Stack) -> None:
    """Give the program the images that this machine has in place of the stack's third-party ones."""
    if stack.target.embedded:
        file = Path(stack.target.environment[STAND_INS])
        known: dict[str, str] = json.loads(file.read_text()) if file.exists() else {}
        given = stack.settings.image_references()
        write_private(file, json.dumps(known | {reference: standins.pinned(reference) for reference in given}))


def with_images(stack: Stack, digests: dict[str, str]) -> Stack:
    """The stack with our services by these images, whatever its file says."""
    settings = stack.settings.model_copy(update={"build": False, "digests": digests})
    return replace(stack, settings=settings, overrides={"build": False, "digests": digests})


def on(stack: Stack) -> list[str]:
    """Return options that name the stack and its configuration."""
    write_stand_ins(stack)
    return ["--stack", stack.name, "--config-file", str(effective_file(stack))]


def outputs(stack: Stack) -> dict[str, Any]:
    """Return the outputs of the stack's last up.

    Raises:
        NotUpError: there was none.
        ToolchainError: they cannot be read; with Pulumi's words.
    """
    found: dict[str, Any] = json.loads(read(stack, "output", "--json"))
    if "urls" not in found:
        raise NotUpError(stack.name)
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
