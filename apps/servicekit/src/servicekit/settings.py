"""Settings of a service: defaults, overridden by config.yaml, overridden by APP_… in the environment."""

import difflib
import json
import re
import ssl
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar, cast

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from servicekit.addresses import Host, HostAndPort, Url

PREFIX = "APP"
PRINT = "--print-config"
KEY = re.compile(r"[\w.-]{1,80}", re.ASCII)
HARMLESS = re.compile(r"[+-]?[0-9]{1,9}(\.[0-9]{1,9})?|true|false", re.ASCII | re.IGNORECASE)
"""Pattern of a number or a boolean: no other wrong value is shown, since it may be a misplaced password."""


PATH = re.compile(r"\.{0,2}/[\w./-]*", re.ASCII)
"""Pattern of a text that is certainly a path."""


class SettingsError(Exception):
    """Error for an invalid setting: its key, the reason, and its source."""


class Settings(BaseModel):
    """Base of every table of settings."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @field_validator("*", mode="before")
    @classmethod
    def numbers_are_no_booleans(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse true and false as 1 and 0."""
        wanted: Any = cls.model_fields[str(info.field_name)].annotation
        if isinstance(value, bool) and wanted in (int, float):
            raise ValueError("wants a number")
        return value


class Server(Settings):
    """The address and limits of the service's listener."""

    host: Host = "0.0.0.0"  # noqa: S104 - a pod is reached from outside itself
    port: int = Field(default=8080, ge=1, le=65535)
    body_limit_bytes: int = Field(default=64 * 1024, ge=1)
    """Maximum bytes of a request body."""


class Registry(Settings):
    """The Consul agent."""

    address: HostAndPort = "localhost:8500"
    token: SecretStr = SecretStr("")
    """ACL token; empty if the agent requires none."""


ServiceName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
"""Name of a service in Consul, in metrics and in logs."""


class Service(Settings):
    """The name of the service, and its address for others."""

    name: ServiceName
    address: Host = "127.0.0.1"
    """Address that is registered in Consul; a pod's IP."""
    registry: Registry = Registry()


class Jwks(Settings):
    """Another issuer, whose tokens are accepted in addition to our own."""

    url: Url | None = None
    """URL of its JWK Set; absent: there is no other issuer."""
    issuer: str = ""
    """Name of the issuer: the `iss` of its tokens."""

    @model_validator(mode="after")
    def issuer_is_named(self) -> "Jwks":
        """Refuse keys without an issuer: they would be valid for tokens in any issuer's name."""
        if self.url and not self.issuer:
            raise ValueError("auth.jwks.issuer is needed where auth.jwks.url is given")
        return self


class Auth(Settings):
    """The authentication of callers."""

    required: bool = True
    """True if a request without a token is refused."""
    keys_file: Path | None = None
    """JWK Set that verifies our own tokens; its first secret key signs them."""
    jwks: Jwks = Jwks()
    issuer: str = "estate"
    audience: str = "estate"


class Cache(Settings):
    """The Redis that services share."""

    host: Host | None = None
    """Host of Redis; absent: there is none."""
    port: int = Field(default=6379, ge=1, le=65535)
    password: SecretStr = SecretStr("")


class Pool(Settings):
    """The connection pool of one process."""

    size: int = Field(default=5, ge=1, le=100)


class Database(Settings):
    """The Postgres that services share, each with a login and tables of its own."""

    host: Host = "localhost"
    port: int = Field(default=5432, ge=1, le=65535)
    username: str = "myuser"
    password: SecretStr = SecretStr("")
    name: str = "myapp"
    ca_file: Path | None = None
    """PEM certificate that verifies the server as the named host; absent: the server is not verified, and TLS is not required."""
    pool: Pool = Pool()
    connect_timeout_s: float = Field(default=2.0, gt=0, le=3600)
    statement_timeout_s: float = Field(default=5.0, gt=0, le=3600)

    def tls(self) -> ssl.SSLContext | None:
        """Return the context that verifies the server; None if it is not verified.

        Raises:
            SettingsError: the file cannot be read, or holds no certificate.
        """
        if self.ca_file is None:
            return None
        name = named("database.ca_file", self.ca_file)
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
        except ssl.SSLError as error:
            raise SettingsError(f"{name} holds no certificate as PEM") from error
        except OSError as error:
            raise SettingsError(f"{name} cannot be read: {error.strerror}") from error
        if not context.get_ca_certs():
            raise SettingsError(f"{name} holds no certificate of an authority")
        return context


class Called(Settings):
    """Another service that this one calls."""

    url: Url
    """URL without a path, such as http://user-service:8080."""
    passes_token: bool = False
    """True if calls carry the token of the user whose request is served."""
    timeout_s: float = Field(default=5, gt=0, le=3600)
    """Seconds for its response, if the served request has no deadline of its own."""
    answer_limit_bytes: int = Field(default=1024 * 1024, ge=1)
    """Maximum bytes of a body of its responses."""


class Tracing(Settings):
    """The export of spans."""

    endpoint: Url | None = None
    """URL of an OpenTelemetry collector (OTLP over HTTP), such as http://collector:4318; absent: no spans."""
    ratio: float = Field(default=0.1, ge=0, le=1)
    """Fraction of the traces that begin here that are recorded; callers decide on the traces that they begin."""


class ServiceSettings(Settings):
    """Settings that every service has."""

    server: Server = Server()
    service: Service
    auth: Auth = Auth()
    tracing: Tracing = Tracing()


class DatabaseSettings(ServiceSettings):
    """Settings of a service with tables in the database."""

    database: Database = Database()


S = TypeVar("S", bound=ServiceSettings)


def load(model: type[S], environment: Mapping[str, str], folders: tuple[Path, ...] | None = None) -> S:
    """Return the settings of a service.

    Args:
        model: model of the service's settings.
        environment: APP_SERVER_PORT is server.port; APP_SERVER_PORT_FILE names a file that holds it.
        folders: folders that are searched for config.yaml; the first one found is used.

    Raises:
        SettingsError: a value is wrong, or a file cannot be read.
    """
    values, sources = from_file(usual_folders() if folders is None else folders)
    refuse_unknown(model, environment)
    refuse_no_tables(model, values, sources)
    for key in keys(model):
        found = from_environment(variable(key), environment)
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
        problems = (describe(dict(problem), sources, model) for problem in error.errors())
        raise SettingsError("; ".join(problems)) from error


def usual_folders() -> tuple[Path, ...]:
    """Return the folders that are searched for config.yaml."""
    try:
        home = (Path.home() / ".app",)
    except RuntimeError:  # without HOME, a user who is not in the user database has no home
        home = ()
    return (Path("config"), Path("/etc/app"), *home)


class Loader(yaml.SafeLoader):
    """Loader of YAML that refuses a duplicate key, since one of the two would be ignored."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002 - PyYAML's
        """Return a table."""
        seen = set[Any]()
        for key, _ in node.value:
            if isinstance(key.value, str) and key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, "a key is there twice", key.start_mark)
            seen.add(key.value if isinstance(key.value, str) else None)
        return super().construct_mapping(node, deep)


def from_file(folders: tuple[Path, ...]) -> tuple[dict[str, Any], dict[tuple[str, ...], str]]:
    """Return the content of the first config.yaml, and the file as the source of all its keys."""
    for folder in folders:
        file = folder / "config.yaml"
        try:
            file.lstat()  # a broken link is a mistake, not the absence of a file
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise SettingsError(f"{file} cannot be read: {error.strerror}") from error
        values = parsed(file, str(file))
        if not isinstance(values, dict):
            raise SettingsError(f"{file} holds no table of settings")
        return cast("dict[str, Any]", values), {(): str(file)}
    return {}, {}


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object, for `object_pairs_hook`.

    Raises:
        ValueError: a key is duplicate, so that one of the two would be ignored.
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key is there twice")
    return found


def named(key: str, file: Path) -> str:
    """Return a setting and the file that it names, for an error.

    A value that may not be a path is not shown, since it may be a misplaced secret.
    """
    return f"{key}: {file if PATH.fullmatch(str(file)) else 'the file that it names'}"


def parsed(file: Path, name: str) -> Any:
    """Return the content of a YAML or JSON file; an empty file is an empty table.

    Args:
        file: path of the file.
        name: name of the file in errors.

    Raises:
        SettingsError: the file cannot be parsed; the message has the position, and none of the content, which may be secret.
    """
    try:
        if file.exists() and not file.is_file():  # reading a pipe would wait for its writer
            raise SettingsError(f"{name} is no regular file")
        content = file.read_bytes()
    except OSError as error:
        raise SettingsError(f"{name} cannot be read: {error.strerror}") from error
    # JSON is YAML, but PyYAML accepts no tabs as its indentation, and takes a hundred times as long.
    with suppress(ValueError, RecursionError):
        return json.loads(content, object_pairs_hook=unique)
    try:
        values: Any = yaml.load(content, Loader)  # noqa: S506 - a SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        # The problem may quote a name from the file, of an alias or a tag.
        problem = re.sub(r"'[^']{2,}'", "this", (error.problem or "").partition("\n")[0])
        raise SettingsError(f"{name} is no YAML{where}: {problem}") from error
    except Exception as error:  # on a malformed tag or number, PyYAML may raise any exception
        raise SettingsError(f"{name} is no YAML in UTF-8 ({type(error).__name__})") from error
    return {} if values is None else values


def refuse_unknown(model: type[BaseModel], environment: Mapping[str, str]) -> None:
    """Refuse variables that name no setting: they would be ignored.

    Raises:
        SettingsError: there is such a variable; the message suggests the nearest name.
    """
    known = [name for key in keys(model) for name in (variable(key), f"{variable(key)}_FILE")]
    for name in environment:
        if name.startswith(f"{PREFIX}_") and name not in known:
            raise SettingsError(f"{shown(name)}: there is no such setting{nearest(name, known)}")


def refuse_no_tables(
    model: type[BaseModel], values: dict[str, Any], sources: Mapping[tuple[str, ...], str], above: tuple[str, ...] = ()
) -> None:
    """Refuse other values in place of a table of settings, such as a URL, which may hold a password.

    Raises:
        SettingsError: with the key, and none of the content.
    """
    for name, inner in tables(model):
        if name not in values:
            continue
        if not isinstance(values[name], dict):
            key, example = ".".join((*above, name)), next(iter(inner.model_fields))
            raise SettingsError(
                f"{key}: wants settings below it, such as {example}, or is left out (from {sources[()]})"
            )
        refuse_no_tables(inner, values[name], sources, (*above, name))


def tables(model: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel]]]:
    """Yield the names and models of the tables within a model."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield name, field.annotation


def variable(key: tuple[str, ...]) -> str:
    """Return the name of the variable that holds a setting."""
    return "_".join([PREFIX, *key]).upper()


def nearest(name: str, known: Sequence[str]) -> str:
    """Return a "did you mean" question with the nearest known name; an empty string if none is near."""
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def shown(key: str) -> str:
    """Return an external key, if it is well-formed: others may be long, or a misplaced value."""
    return key if KEY.fullmatch(key) else "a key"


def from_environment(name: str, environment: Mapping[str, str]) -> tuple[str, str] | None:
    """Return the value and the source of one setting, from a variable or from the file that a variable names."""
    if name in environment:
        return environment[name], name
    file = environment.get(f"{name}_FILE")
    if file is None:
        return None
    try:
        return Path(file).read_text(encoding="utf-8").rstrip("\n"), f"{name}_FILE"
    except OSError as error:  # the file's name is not shown: it may be the secret itself
        raise SettingsError(f"{name}_FILE: the file that it names cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"{name}_FILE: the file that it names is no text in UTF-8") from error


def keys(model: type[BaseModel], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield every key of a model, including those of nested tables."""
    inner = dict(tables(model))
    for name in model.model_fields:
        if name in inner:
            yield from keys(inner[name], (*above, name))
        else:
            yield (*above, name)


def describe(problem: dict[str, Any], sources: Mapping[tuple[str, ...], str], model: type[BaseModel]) -> str:
    """Return a description of a problem that pydantic found, with the value if it is a number or a boolean."""
    key = tuple(str(part) for part in problem["loc"])
    source = sources.get(key) or sources.get((), "the defaults")
    name = ".".join(map(shown, key))
    if problem["type"] == "extra_forbidden":
        known = [".".join(known) for known in keys(model)]
        return f"{name}: there is no such setting{nearest('.'.join(key), known)} (from {source})"
    given = problem["input"]
    hidden = not harmless(given) or key in secrets(model) or problem["type"] == "missing"
    return f"{name}: {problem['msg'].lower()}{'' if hidden else f', not {given!r}'} (from {source})"


def harmless(given: Any) -> bool:
    """Return whether a refused value may be shown."""
    if isinstance(given, str):
        return HARMLESS.fullmatch(given) is not None
    return isinstance(given, bool | int | float) and abs(given) < 1e9


def wrong(error: ValidationError) -> str:
    """Return a description of every problem of a file's content: its key and the reason, and nothing of the value."""
    found = error.errors()
    # Of a list of wrong items, pydantic says also that it is too short.
    lists = {e["loc"][:end] for e in found for end in range(len(e["loc"]))}
    said = [e for e in found if e["type"] != "too_short" or e["loc"] not in lists]
    return "; ".join(f"{'.'.join(shown(str(part)) for part in e['loc'])}: {e['msg']}" for e in said)


def secrets(model: type[BaseModel], above: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    """Return the keys of secret values."""
    return {key for key in keys(model, above) if annotation(model, key) is SecretStr}


def annotation(model: type[BaseModel], key: tuple[str, ...]) -> Any:
    """Return the type of the value at a key."""
    *tables, last = key
    for name in tables:
        inner: Any = model.model_fields[name].annotation
        model = inner
    return model.model_fields[last].annotation


def load_or_exit(model: type[S], environment: Mapping[str, str], arguments: Sequence[str] = ()) -> S:
    """Return the settings, or exit.

    With the argument --print-config, print the settings as YAML, with masked secrets, and exit with code 0. If a setting is wrong, print one
    line with the reason, and exit with code 2. Any other argument is an error, too.
    """
    if not set(arguments) <= {PRINT}:
        print(f"usage: python -m {model.__module__.partition('.')[0]} [{PRINT}]", file=sys.stderr)
        sys.exit(2)
    try:
        settings = load(model, environment)
    except SettingsError as error:
        refuse(error)
    if PRINT in arguments:
        print(yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False), end="")
        sys.exit(0)
    return settings


def refuse(error: SettingsError) -> NoReturn:
    """Print one line with the error, and exit with code 2."""
    print("error:", " ".join(str(error).split()), file=sys.stderr)
    sys.exit(2)
