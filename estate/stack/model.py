"""A stack of the project: its settings, its secrets, and Pulumi run on it."""

import fcntl
import json
import re
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from estate.cluster import standins
from estate.cluster.pki import write_private
from estate.core.console import EstateError, UsageError, passed_on, signals_held
from estate.core.paths import PROJECT, STATE
from estate.stack.target import Target, target
from infra.settings import secrets
from infra.settings.images import STAND_INS
from infra.settings.load import load_stack
from infra.settings.secrets import Step, refuse_missing
from infra.settings.stack import StackSettings
from infra.stack_file import SettingsError
from infra.values import stack_name

STACKS = PROJECT / "stacks"
OWN_STACKS = STATE / "stacks"
"""Folder with this machine's additions to stack files: the salt of its passphrase, and user-supplied secrets, encrypted."""
NO_STACK = "no stack named"
"""Part of Pulumi's error message for a stack that its backend does not have."""
LOOK_EVERY_S = 5.0
REFUSED = re.compile(r"^Error from server|^The [A-Za-z]+ \"|^The request is invalid", re.MULTILINE)
"""Matches what kubectl says where the API server has answered."""
OURS = "--selector=app.kubernetes.io/part-of=estate"
"""Option of kubectl that leaves out what others have put into a stack's namespace."""
MADE_BY = {"up": "up", "destroy": "down"}
"""Our commands, by the Pulumi commands that wait for the cluster."""
HEARD_S = 15.0
"""Seconds for pulumi to exit after a Ctrl-C in the terminal."""
END_S = 60.0
"""Seconds for pulumi to finish the operations in progress after a SIGINT."""
SECRETS_PROVIDER_KEYS = ("encryptionsalt", "encryptedkey", "secretsprovider")


@dataclass(frozen=True)
class Stack:
    """A stack of the project on a target."""

    name: str
    settings: StackSettings
    target: Target
    overrides: dict[str, Any] = field(default_factory=dict[str, Any])
    """Settings for this run that override those in the stack file."""

    @property
    def file(self) -> Path:
        return STACKS / f"Pulumi.{self.name}.yaml"

    @property
    def namespace(self) -> str:
        return f"estate-{self.name}"

    def pulumi(self, *words: str, cwd: Path = PROJECT, given: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run pulumi and capture its output.

        Args:
            words: the words of the command.
            cwd: the working directory.
            given: the standard input.
        """
        command = ["pulumi", "--non-interactive", *words]
        process: subprocess.Popen[str] | None = None
        try:
            with signals_held():  # one that arrives here would leave Pulumi running, unknown to this process
                process = subprocess.Popen(
                    command,
                    env=self.target.environment,
                    cwd=cwd,
                    stdin=subprocess.DEVNULL if given is None else subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            said, complained = process.communicate(given)
        except BaseException as error:
            if process:
                end(process, interrupted=isinstance(error, KeyboardInterrupt))
            raise
        return subprocess.CompletedProcess(command, process.returncode, said, complained)

    def pulumi_shown(self, *words: str, hopeless: Callable[[], str | None] | None = None) -> None:
        """Run pulumi and show its output; on Ctrl-C it ends by itself.

        Args:
            words: the words of the command.
            hopeless: a function called every few seconds; it returns the reason to stop waiting, and the command is then interrupted.

        Raises:
            KeyboardInterrupt: Ctrl-C has ended it.
            BrokenPipeError: the reader closed its output early; the command ran to its end all the same.
            EstateError: it failed, and has printed why; or it was hopeless.
        """
        command = ["pulumi", "--non-interactive", *words]
        # Through a pipe of our own: with a closed standard output Pulumi would die midway.
        output = None if sys.stdout.isatty() else subprocess.PIPE
        interrupts: list[int] = []
        # Ctrl-C reaches the whole process group: Pulumi ends by itself, and this process waits for it.
        before = signal.signal(signal.SIGINT, lambda number, _frame: interrupts.append(number))
        try:
            with (
                subprocess.Popen(
                    command, env=self.target.environment, cwd=PROJECT, stdout=output, text=True
                ) as process,
                passed_on(process.stdout) as read,
            ):
                reason = awaited(process, hopeless) if hopeless else None
                code = process.wait()
        finally:
            signal.signal(signal.SIGINT, before)
        if reason and code != 0:
            raise EstateError(
                f"{reason}\nIt was ended there; estate {MADE_BY[words[0]]} --stack {self.name} goes on once that is put right"
            )
        if code != 0 and interrupts:
            raise KeyboardInterrupt
        if not read():
            raise BrokenPipeError
        if code != 0:
            raise EstateError(
                f"pulumi {words[0]} failed (exit {code}): the lines above say why; the same command goes on from there"
            )

    def kubectl(self, *words: str) -> list[str]:
        """Return the command line of kubectl on the target."""
        return [
            "kubectl",
            f"--kubeconfig={self.target.kubeconfig}",
            f"--context={self.target.context}",
            f"--namespace={self.namespace}",
            *words,
        ]


def end(process: subprocess.Popen[str], *, interrupted: bool) -> None:
    """Wait for a Pulumi process to end, and kill it only as a last resort: its plugins would then never stop.

    Args:
        process: the Pulumi process.
        interrupted: True if Ctrl-C ended the wait; the process has received it too, and a second one would kill the host of its plugins.
    """
    for wait_s in (HEARD_S, END_S) if interrupted else (0.0, END_S):
        try:
            process.communicate(timeout=wait_s)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
        else:
            return
    process.kill()


def awaited(process: subprocess.Popen[str], hopeless: Callable[[], str | None]) -> str | None:
    """Wait for a Pulumi process to end; return None, or the reason for which it was interrupted.

    The interrupt is SIGINT, on which Pulumi finishes the operations in progress.

    Args:
        process: the Pulumi process.
        hopeless: a function called every LOOK_EVERY_S; it returns the reason to stop waiting.
    """
    while True:
        with suppress(subprocess.TimeoutExpired):
            process.wait(LOOK_EVERY_S)
            return None
        if reason := hopeless():
            process.send_signal(signal.SIGINT)
            return reason


class NotUpError(EstateError):
    """Error for a stack that was never brought up, or no longer exists."""

    def __init__(self, name: str) -> None:
        super().__init__(f"stack {name} is not up: estate up --stack {name}")


def stack_names() -> list[str]:
    """Return the names of the stacks that have a file."""
    return sorted(path.name.removeprefix("Pulumi.").removesuffix(".yaml") for path in STACKS.glob("Pulumi.*.yaml"))


def load(name: str) -> StackSettings:
    """Return the settings of a stack of this project.

    Raises:
        EstateError: there is no such stack, or its file is invalid; with what to do.
    """
    try:
        stack_name(name)
    except ValueError as error:
        raise UsageError(f"{name!r} is no name of a stack: it {error}, such as dev") from error
    if name not in (known := stack_names()):
        raise UsageError(f"there is no stack {name!r}: the stacks are {', '.join(known)} (stacks/Pulumi.<stack>.yaml)")
    try:
        return load_stack(STACKS / f"Pulumi.{name}.yaml")
    except SettingsError as error:
        raise EstateError(str(error)) from error


@contextmanager
def only_one(name: str) -> Generator[None]:
    """Hold a stack's lock on this machine.

    Raises:
        EstateError: another command works on the stack.
    """
    OWN_STACKS.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (OWN_STACKS / f"{name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise EstateError(f"another command works on stack {name}: wait for it to end, or end it") from None
        yield


def open_stack(name: str, settings: StackSettings) -> Stack:
    """Return the stack; create it in the backend, with its secrets provider, if it does not exist.

    Raises:
        EstateError: the backend refuses; with Pulumi's error output.
    """
    stack = Stack(name, settings, target())
    own_project = OWN_STACKS / "Pulumi.yaml"
    if not own_project.exists():
        write_private(own_project, "name: estate\nruntime: python\n")
    if stack.pulumi("stack", "select", name, cwd=OWN_STACKS).returncode != 0:
        created = stack.pulumi("stack", "init", name, "--secrets-provider", "passphrase", cwd=OWN_STACKS)
        if created.returncode != 0:
            raise EstateError(
                f"stack {name} could not be made in {stack.target.environment['PULUMI_BACKEND_URL']}: {created.stderr.strip()}"
            )
    return stack


def read_yaml(file: Path) -> dict[str, Any]:
    """Return the mapping in a YAML file; an empty mapping for an empty file."""
    return yaml.safe_load(file.read_text()) or {}


def has_own_secrets_provider(file: Path) -> bool:
    """Return whether a stack file configures its own encryption (a team's stack does)."""
    return any(key in read_yaml(file) for key in SECRETS_PROVIDER_KEYS)


def store_secret(stack: Stack, key: str, value: str) -> None:
    """Store a user-supplied secret in the stack's configuration, encrypted.

    Raises:
        EstateError: Pulumi refuses; with its error output.
    """
    # Through standard input: arguments are visible to every user of the machine.
    done = stack.pulumi("config", "set", "--secret", f"estate:{key}", "--stack", stack.name, given=value)
    if done.returncode != 0:
        raise EstateError(f"the secret {key} could not be stored in {stack.file}: {done.stderr.strip()}")


def secret(stack: Stack, key: str) -> str:
    """Return one of the stack's secrets, generated or user-supplied.

    Raises:
        EstateError: the stack has no secret of this name, or it cannot be decrypted here.
    """
    if key not in stack.settings.given_secrets and (value := generated(stack).get(key)):
        return value
    done = stack.pulumi("config", "get", f"estate:{key}", *on(stack))
    if done.returncode != 0:
        raise EstateError(f"the secret {key} of stack {stack.name} cannot be read: {done.stderr.strip()}")
    return done.stdout.strip()


def generated(stack: Stack) -> dict[str, str]:
    """Return the secrets that the program has generated, by name; empty before the first update.

    Raises:
        EstateError: the state cannot be read, or decrypted here; with Pulumi's error output.
    """
    resources = state_of(stack, "--show-secrets").get("resources", ())
    found = [one["outputs"]["values"] for one in resources if one["type"] == secrets.TYPE]
    return json.loads(found[0]["plaintext"]) if found else {}


def state_of(stack: Stack, *options: str) -> dict[str, Any]:
    """Return the stack's state, which is empty before its first update.

    Raises:
        EstateError: there is no such stack, or its state cannot be read; with Pulumi's error output.
    """
    return json.loads(read(stack, "export", *options))["deployment"] or {}


def read(stack: Stack, *words: str) -> str:
    """Return the output of a `pulumi stack` command on an existing stack.

    Raises:
        NotUpError: the backend has no stack of this name.
        EstateError: the stack cannot be read; with Pulumi's error output.
    """
    done = stack.pulumi("stack", *words, "--stack", stack.name)
    if done.returncode == 0:
        return done.stdout
    if NO_STACK in done.stderr:
        raise NotUpError(stack.name)
    raise EstateError(f"stack {stack.name} cannot be read: {done.stderr.strip()}")


def with_change(stack: Stack, *steps: Step) -> Stack:
    """Return the stack with a change of its generated secrets that its next update makes."""
    change = {secrets.CHANGE: json.dumps({"id": str(uuid.uuid4()), "steps": steps})} if steps else {}
    return replace(stack, target=replace(stack.target, environment=stack.target.environment | change))


def added_to(file: Path) -> dict[str, Any]:
    """Return this machine's additions to a stack file; empty if the file configures its own encryption."""
    own_file = OWN_STACKS / file.name
    return read_yaml(own_file) if own_file.exists() and not has_own_secrets_provider(file) else {}


def refuse_missing_secrets(name: str, settings: StackSettings) -> None:
    """Refuse a stack whose configuration lacks required user-supplied secrets, as far as that is known without Pulumi.

    Raises:
        EstateError: secrets are missing; with the command to supply each.
    """
    file = STACKS / f"Pulumi.{name}.yaml"
    common = read_yaml(file)
    if "environment" in common:  # only Pulumi knows the contents of a Pulumi ESC environment
        return
    config = {**common.get("config", {}), **added_to(file).get("config", {})}
    try:
        refuse_missing(name, (key for key in settings.given_secrets if f"estate:{key}" not in config))
    except SettingsError as error:
        raise EstateError(str(error)) from error


def effective_file(stack: Stack) -> Path:
    """Return the stack file for Pulumi: the project's with this machine's additions, and the settings for this run."""
    own = added_to(stack.file)
    if not own and not stack.overrides:
        return stack.file
    common = read_yaml(stack.file)
    config: dict[str, Any] = common.get("config", {}) | own.get("config", {})
    config["estate:settings"] = config["estate:settings"] | stack.overrides
    file = OWN_STACKS / f"{stack.name}.yaml"
    # JSON is YAML that all parsers read alike: PyYAML would write some strings without quotes that Pulumi reads as numbers.
    write_private(file, json.dumps(common | own | {"config": config}))
    return file


def forget_taken_over(stack: Stack) -> None:
    """Remove from this machine's file the secrets that earlier versions generated, and that are now in the state."""
    file = OWN_STACKS / f"Pulumi.{stack.name}.yaml"
    own = read_yaml(file) if file.exists() else {}
    taken = {f"estate:{name}" for name in stack.settings.generated_secrets}
    config: dict[str, Any] = own.get("config", {})
    if taken & config.keys():
        write_private(file, json.dumps(own | {"config": {key: config[key] for key in config.keys() - taken}}))


def write_stand_ins(stack: Stack) -> None:
    """Write the file from which the program reads this machine's replacements of the stack's third-party images."""
    if stack.target.embedded:
        file = Path(stack.target.environment[STAND_INS])
        known: dict[str, str] = json.loads(file.read_text()) if file.exists() else {}
        given = stack.settings.image_references()
        write_private(file, json.dumps(known | {reference: standins.pinned(reference) for reference in given}))


def with_images(stack: Stack, digests: dict[str, str]) -> Stack:
    """Return the stack with these images of our services, overriding its file."""
    settings = stack.settings.model_copy(update={"build": False, "digests": digests})
    return replace(stack, settings=settings, overrides={"build": False, "digests": digests})


def on(stack: Stack) -> list[str]:
    """Return Pulumi's options for the stack and its configuration file."""
    write_stand_ins(stack)
    return ["--stack", stack.name, "--config-file", str(effective_file(stack))]


def outputs(stack: Stack) -> dict[str, Any]:
    """Return the outputs of the stack's last update.

    Raises:
        NotUpError: there was none.
        EstateError: they cannot be read; with Pulumi's error output.
    """
    found: dict[str, Any] = json.loads(read(stack, "output", "--json"))
    if "urls" not in found:
        raise NotUpError(stack.name)
    return found


def ask(stack: Stack, *words: str, limit_s: int = 10, given: str | None = None) -> str:
    """Run kubectl on the stack's cluster, in its namespace, and return its output.

    Args:
        stack: the stack with the cluster and the namespace.
        words: the words of the command.
        limit_s: the timeout of a request in seconds; 0 is no limit.
        given: the standard input, for `--filename=-`.

    Raises:
        EstateError: the command failed; with kubectl's error output.
    """
    command = stack.kubectl(f"--request-timeout={limit_s}s", *words)
    done = subprocess.run(
        command, input=given, env=stack.target.environment, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        said = done.stderr.strip()
        refused = (
            "the cluster refuses"
            if REFUSED.search(said)
            else "the cluster does not answer (estate cluster start starts the embedded one)"
        )
        raise EstateError(f"{refused}: {said}")
    return done.stdout
