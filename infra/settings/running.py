"""Load the settings and the cluster of the stack that Pulumi runs."""

import json
import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pulumi
import pulumi.runtime.config as runtime_config

from infra.services import NAMES
from infra.settings.images import STAND_INS
from infra.settings.load import misplaced, parse
from infra.settings.stack import StackSettings
from infra.stack_file import (
    NO_LINES,
    SETTINGS,
    Mistake,
    SettingsError,
    refusal,
)
from infra.values import ZEROS, stack_name

MANIFESTS = "ESTATE_MANIFESTS"
"""Environment variable with the folder for manifests, if they are rendered without a cluster."""


@dataclass(frozen=True)
class Cluster:
    """The only Kubernetes cluster that the program may change, or a folder in its place."""

    context: str | None = None
    """Context in the kubeconfig that KUBECONFIG or ~/.kube/config holds; the file's path differs between machines, and is not in the state."""
    folder: str | None = None
    """Folder into which manifests are written, without changing a cluster."""


def load_cluster() -> Cluster:
    """Return the cluster that the stack's configuration or the command estate names.

    Raises:
        SettingsError: neither names one, since a default could be the wrong cluster, or they name different ones.
    """
    if folder := os.environ.get(MANIFESTS):
        return Cluster(folder=folder)
    given, configured = os.environ.get("ESTATE_KUBE_CONTEXT"), pulumi.Config("kubernetes").get("context")
    if given and configured and given != configured:
        raise SettingsError(
            f"stack {pulumi.get_stack()} belongs to the context {configured} (kubernetes:context), and this is for {given}: "
            f"estate --target system --context {configured} works there"
        )
    context = configured or given
    if not context:
        raise SettingsError(
            "no cluster is named: pulumi config set kubernetes:context <context> names one of your kubeconfig "
            "(kubectl config get-contexts lists them), and make up brings one up"
        )
    return Cluster(context)


def config_of_pulumi() -> dict[str, Any]:
    """Return the configuration of the running stack as in its file, except for encrypted values.

    It is empty if manifests are rendered: their secrets are placeholders.
    """
    if MANIFESTS in os.environ:
        return {}
    secret = set(runtime_config.get_config_secret_keys_env())
    values = runtime_config.get_config_env()
    return {key: {"secure": "by Pulumi"} if key in secret else value for key, value in values.items()}


def load_settings() -> StackSettings:
    """Return the settings of the stack that Pulumi runs.

    Raises:
        SettingsError: it has none, a key or value is wrong, or an image of ours is neither built nor given.
    """
    stack = pulumi.get_stack()
    try:
        stack_name(stack)
        values: Any = pulumi.Config("estate").get_object("settings")
    except pulumi.ConfigTypeError:  # which quotes the text
        values = None
    except ValueError as error:
        raise SettingsError(f"stack {stack!r}: {error}") from error
    source = f"stacks/Pulumi.{stack}.yaml"
    settings = parse(values, source)
    if wrong := [*misplaced(config_of_pulumi(), settings.given_secrets, stack), *wanted_digests(settings)]:
        raise refusal(source, NO_LINES, wrong)
    return with_stand_ins(settings)


def wanted_digests(settings: StackSettings) -> list[Mistake]:
    """Return a mistake for each image that an update would lack; a file may lack it until `estate promote` has written it."""
    return [
        Mistake(
            (*SETTINGS, "digests", name),
            "is missing, and the stack does not build: wants build: true, or the image (estate promote writes it)",
            f"{name}: {settings.registry}/{name}@{ZEROS}",
        )
        for name in NAMES
        if not settings.build and name not in settings.digests
    ]


def with_stand_ins(settings: StackSettings) -> StackSettings:
    """Return the settings with third-party images replaced by those that this machine has, according to STAND_INS."""
    file = os.environ.get(STAND_INS)
    if not file or not Path(file).exists():
        return settings
    known: dict[str, str] = json.loads(Path(file).read_text())
    given: dict[str, str] = settings.images.model_dump(exclude_none=True)
    images = {name: known.get(image, image) for name, image in given.items()}
    return settings.model_copy(update={"images": settings.images.model_copy(update=images)})


@contextmanager
def reported() -> Generator[None]:
    """Have Pulumi report wrong settings by their message, without a traceback."""
    try:
        yield
    except SettingsError as error:
        raise pulumi.RunError(str(error)) from error
