"""Load and check the settings, from `estate:settings` in a stack file."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError

from infra.mistakes import mistakes_of
from infra.settings.secrets import DATABASE_LOGIN, GENERATED_SECRETS, TOKEN_KEYS, service_secrets
from infra.settings.stack import StackSettings
from infra.stack_file import (
    EXAMPLE,
    NO_LINES,
    SETTINGS,
    Mistake,
    read,
    refusal,
    source_of,
    wrong_secrets,
)
from infra.stages import STAGES, Stage, with_defaults


def load_stack(file: Path) -> StackSettings:
    """Return the settings in a stack file.

    Raises:
        SettingsError: the file cannot be read, or a key or value is wrong; with a line for each mistake.
    """
    config, lines = read(file)
    settings = checked(config["estate:settings"])
    if isinstance(settings, StackSettings):
        found, own = list[Mistake](), settings.given_secrets
    else:  # the receivers of wrong settings are not known
        receivers = [key.removeprefix("estate:") for key in config if key.startswith("estate:receiver-")]
        found, own = settings, [*receivers, *service_secrets()]
    found += misplaced(config, own, file.name.removeprefix("Pulumi.").removesuffix(".yaml"))
    if found or not isinstance(settings, StackSettings):
        raise refusal(source_of(file), lines, found)
    return settings


def misplaced(config: Mapping[str, Any], given: Iterable[str], stack: str) -> Iterator[Mistake]:
    """Yield mistakes in the estate's keys next to its settings: keys of no known secret, and secrets that are not encrypted.

    Args:
        config: configuration of the stack, with encrypted values as Pulumi writes them.
        given: names of the secrets that the user supplies.
        stack: name of the stack.
    """
    return wrong_secrets(config, [*GENERATED_SECRETS, *given], [*TOKEN_KEYS[1:], DATABASE_LOGIN], stack)


def parse(values: Any, source: str) -> StackSettings:
    """Return validated settings.

    Args:
        values: settings as in the stack file.
        source: name of their origin, for the error.

    Raises:
        SettingsError: names each wrong key, with an example of what is right.
    """
    settings = checked(values)
    if not isinstance(settings, StackSettings):
        raise refusal(source, NO_LINES, settings)
    return settings


def checked(values: Any) -> StackSettings | list[Mistake]:
    """Return the settings, or the mistakes in them."""
    if not isinstance(values, dict):
        return [Mistake(SETTINGS, "is missing: wants a table, in which the settings are", EXAMPLE)]
    given = cast("dict[str, Any]", values)
    # Other mistakes are reported for a stack without a stage too.
    stage: Stage = given["stage"] if given.get("stage") in list(STAGES) else "local"
    try:
        return StackSettings.model_validate(with_defaults(given, stage))
    except ValidationError as error:
        return mistakes_of(error, StackSettings, given, stage)
