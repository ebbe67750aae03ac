"""Settings of a service: defaults, overruled by config.yaml, overruled by APP_… in the environment."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator

PREFIX = "APP"
FOLDERS = (Path("config"), Path("/etc/app"), Path.home() / ".app")
"""Where config.yaml is looked for; the first one found is taken."""


class SettingsError(Exception):
    """A setting that is wrong: its key, what is wrong with it, and where it came from."""


class Settings(BaseModel):
    """Common to every table of settings."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Server(Settings):
    """Where the service listens."""

    host: str = "0.0.0.0"  # noqa: S104 - a pod is reached from outside itself
    port: int = Field(default=8080, ge=1, le=65535)
    body_limit_bytes: int = Field(default=64 * 1024, ge=1)
    """The largest request body that is accepted."""


class Registry(Settings):
    """The Consul agent."""

    address: str = "localhost:8500"
    token: SecretStr = SecretStr("")
    """Empty: the agent asks for none."""


class Service(Settings):
    """What the service is called, and where others reach it."""

    name: str
    address: str = "127.0.0.1"
    """Registered in Consul; a pod's IP."""
    registry: Registry = Registry()


class Jwks(Settings):
    """Another issuer, whose tokens are accepted beside our own."""

    url: str | None = Field(default=None, pattern=r"^https?://")
    """Of its JWK Set; absent: there is none."""
    issuer: str = ""
    """Its name, which its tokens have as `iss`."""

    @model_validator(mode="after")
    def issuer_is_named(self) -> "Jwks":
        """Refuse keys of nobody: they would be good for tokens in anybody's name."""
        if self.url and not self.issuer:
            raise ValueError("auth.jwks.issuer is needed where auth.jwks.url is given")
        return self


class Auth(Settings):
    """Who may call."""

    required: bool = True
    """Whether a request without a token is refused."""
    keys_file: Path | None = None
    """JWK Set that our own tokens are verified by; the first secret key in it signs."""
    jwks: Jwks = Jwks()
    issuer: str = "estate"
    audience: str = "estate"


class Cache(Settings):
    """The Redis that services share."""

    host: str | None = None
    """Absent: there is none."""
    port: int = Field(default=6379, ge=1, le=65535)
    password: SecretStr = SecretStr("")


class Tracing(Settings):
    """Where spans go."""

    endpoint: str | None = Field(default=None, pattern=r"^https?://")
    """URL of an OpenTelemetry collector (OTLP over HTTP), such as http://collector:4318; absent: no spans."""
    ratio: float = Field(default=0.1, ge=0, le=1)
    """Of the traces that begin here, how many are recorded; of one that a caller began, it says so itself."""


class ServiceSettings(Settings):
    """Settings that every service has."""

    server: Server = Server()
    service: Service
    auth: Auth = Auth()
    tracing: Tracing = Tracing()


S = TypeVar("S", bound=ServiceSettings)


def load(model: type[S], environment: Mapping[str, str], folders: tuple[Path, ...] = FOLDERS) -> S:
    """The settings of a service.

    Args:
        model: of the service.
        environment: APP_SERVER_PORT is server.port; APP_SERVER_PORT_FILE names a file that holds it.
        folders: where config.yaml is looked for.

    Raises:
        SettingsError: a value is wrong, or a file cannot be read.
    """
    values, sources = from_file(folders)
    for key in keys(model):
        name = "_".join([PREFIX, *key]).upper()
        found = from_environment(name, environment)
        if found is None:
            continue
        table = values
        for part in key[:-1]:
            table = table.setdefault(part, {})
        table[key[-1]], source = found
        sources[key] = source
    try:
        return model.model_validate(values)
    except ValidationError as error:
        problems = (describe(dict(problem), sources, secrets(model)) for problem in error.errors())
        raise SettingsError("; ".join(problems)) from error


def from_file(folders: tuple[Path, ...]) -> tuple[dict[str, Any], dict[tuple[str, ...], str]]:
    """The first config.yaml, and itself as the source of all it holds."""
    for folder in folders:
        file = folder / "config.yaml"
        if file.is_file():
            try:
                values: Any = yaml.safe_load(file.read_text()) or {}
            except (OSError, yaml.YAMLError) as error:
                raise SettingsError(f"{file} cannot be read: {error}") from error
            if not hasattr(values, "keys"):
                raise SettingsError(f"{file} holds no table of settings")
            return values, {(): str(file)}
    return {}, {}


def from_environment(name: str, environment: Mapping[str, str]) -> tuple[str, str] | None:
    """Value and source of one setting, from a variable or the file that one names."""
    if name in environment:
        return environment[name], name
    file = environment.get(f"{name}_FILE")
    if file is None:
        return None
    try:
        return Path(file).read_text().rstrip("\n"), f"{name}_FILE ({file})"
    except OSError as error:
        raise SettingsError(f"{name}_FILE: {file} cannot be read: {error.strerror}") from error


def keys(model: type[BaseModel], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every key of a model, tables within tables."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from keys(field.annotation, (*above, name))
        else:
            yield (*above, name)


def describe(problem: dict[str, Any], sources: Mapping[tuple[str, ...], str], secret: set[tuple[str, ...]]) -> str:
    """One problem that pydantic found; a secret's value is not shown."""
    key = tuple(str(part) for part in problem["loc"])
    source = sources.get(key) or sources.get((), "the defaults")
    hidden = key in secret or problem["type"] in ("missing", "extra_forbidden")
    shown = "" if hidden else f", not {problem['input']!r}"
    return f"{'.'.join(key)}: {problem['msg'].lower()}{shown} (from {source})"


def secrets(model: type[BaseModel], above: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    """Keys whose values are secret."""
    return {key for key in keys(model, above) if annotation(model, key) is SecretStr}


def annotation(model: type[BaseModel], key: tuple[str, ...]) -> Any:
    """The type of the value at a key."""
    *tables, last = key
    for name in tables:
        inner: Any = model.model_fields[name].annotation
        model = inner
    return model.model_fields[last].annotation


def load_or_exit(model: type[S], environment: Mapping[str, str], arguments: Sequence[str] = ()) -> S:
    """The settings, or the end of the process.

    With --print-config among the arguments they are printed as YAML, secrets masked, and the process ends with exit code 0; when one is
    wrong it ends with one line that says what, and exit code 2.
    """
    try:
        settings = load(model, environment)
    except SettingsError as error:
        refuse(error)
    if "--print-config" in arguments:
        print(yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False), end="")
        sys.exit(0)
    return settings


def refuse(error: SettingsError) -> NoReturn:
    """End the start of a service."""
    print(f"error: {error}", file=sys.stderr)
    sys.exit(2)
