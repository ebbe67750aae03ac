"""Declarations of our services: each is declared here once, and everything that it needs follows from that."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from typing import Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError

from infra.errors import ProjectError
from infra.mistakes import reason
from infra.settings.routes import Prefix
from infra.values import INT32, schedule

Need = Literal["postgres", "redis", "consul"]
GATEWAY = "api-gateway"
VARIABLE = r"APP_[A-Z0-9_]+"
"""Pattern of a service's own environment variable."""
PLACE = r"[a-z]([a-z0-9-]{0,30}[a-z0-9])?"
"""Pattern of the name of a destination outside the estate."""
WORDS = r"[a-z][a-z0-9]*(-[a-z0-9]+)*"
"""Pattern of the names of services, and of their own secrets."""
LONGEST_NAME = 40
"""Maximum characters of a service's name: Kubernetes' limit is 63, and a service's resources have its name with a suffix."""
LONGEST_SECRET = 60
LONGEST_WORK = 52
"""Maximum characters of the name of a CronJob (https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/)."""
MODULE = r"[a-z_][a-z0-9_]*(\.[a-z_][a-z0-9_]*)*"
RESERVED = ("migration", "pods")
"""Names that every service uses already: for its migration, and for the headless Service of its pods."""
RECEIVER = "receiver-"
"""Prefix of the names of the alert receivers' secrets in the stack's configuration."""


class DeclarationError(ProjectError):
    """Error for an invalid declaration, with the service, the mistake and the remedy."""


STRICT = ConfigDict(strict=True, revalidate_instances="always")
"""Configuration of pydantic: a declaration has the types that it says, since the program runs without a type checker."""


@dataclass(frozen=True)
class Job:
    """A task that a service runs on a schedule."""

    __pydantic_config__ = STRICT

    name: str
    """Name of the task; in the cluster it is prefixed with the service's name."""
    schedule: str
    """Schedule in UTC, in the syntax of Kubernetes' CronJob."""
    module: str
    """Module that `python -m` runs."""
    deadline_s: int = 3600
    """Maximum seconds of a run; runs that are due meanwhile are skipped."""


@dataclass(frozen=True)
class Worker:
    """A task that a service runs permanently, without serving HTTP."""

    __pydantic_config__ = STRICT

    name: str
    """Name of the task; in the cluster it is prefixed with the service's name."""
    module: str
    """Module that `python -m` runs."""
    replicas: int = 1
    """Number of pods; while one is replaced, there may be one more."""


@dataclass(frozen=True)
class Service:
    """A service behind the gateway."""

    __pydantic_config__ = STRICT

    name: str
    """Name of its folder in apps/, of its image and of the resources that run it."""
    needs: tuple[Need, ...]
    """Backing services that it connects to."""
    prefixes: tuple[Prefix, ...]
    """Path prefixes at which the gateway serves it; the stack may set other routes (`routes`)."""
    schema: Literal["own", "public"] = "own"
    """Schema of its tables, if it has any: a schema of its own, or `public`, which only one service may have."""
    calls: tuple[str, ...] = ()
    """Names of other services that it calls."""
    passes_token_to: tuple[str, ...] = ()
    """Called services that get the token of the user who made the request; others get none."""
    variables: Mapping[str, str] = field(default_factory=dict[str, str])
    """Its own settings: environment variables (APP_…) with the values that apply unless a stack sets others."""
    secrets: tuple[str, ...] = ()
    """Names of its own secrets, which the user gives each stack. The setting of that name reads the file: `mail-password` is `mail.password`."""
    egress: tuple[str, ...] = ()
    """Names of destinations outside the estate that it connects to; a stack says where they are (`outside`)."""
    migrates: bool = False
    """Requirement to run `python -m <package>.migrate` before the service starts."""
    jobs: tuple[Job, ...] = ()
    """Tasks that it runs on a schedule."""
    workers: tuple[Worker, ...] = ()
    """Tasks that it runs permanently, in addition to serving HTTP."""

    @property
    def package(self) -> str:
        """Return the name of its Python package."""
        return self.name.replace("-", "_")

    def workload(self, work: Job | Worker) -> str:
        """Return the name of one of its jobs or workers in the cluster."""
        return f"{self.name}-{work.name}"

    def secret_key(self, secret: str) -> str:
        """Return the name of one of its secrets in a stack's configuration."""
        return f"{self.name}-{secret}"


def secret_variable(secret: str) -> str:
    """Return the environment variable of a service's own secret; with the suffix _FILE, it is the one that names its file."""
    return f"APP_{secret.replace('-', '_').upper()}"


def callees_first(services: Sequence[Service]) -> tuple[Service, ...]:
    """Return the services ordered so that each comes after those that it calls.

    Raises:
        DeclarationError: a service calls an unknown one, itself, one twice, or in a cycle, or one of its names or values is invalid.
    """
    for service in services:
        refuse_wrong_types(service)
    by_name = {service.name: service for service in services}
    if len(by_name) < len(services):
        names = [service.name for service in services]
        twice = next(name for name in names if names.count(name) > 1)
        raise DeclarationError(f"service {twice} is declared twice in infra/services.py: give one of them another name")
    for service in services:
        refuse_wrong_calls(service, by_name)
        refuse_wrong_names(service)
        refuse_wrong_secrets(service)
        refuse_wrong_work(service, by_name)
    refuse_one_workload_of_two(services)
    refuse_one_secret_of_two(services)
    refuse_one_schema_of_two(services)
    refuse_one_prefix_of_two(services)
    try:
        order = TopologicalSorter({service.name: service.calls for service in services}).static_order()
        return tuple(by_name[name] for name in order)
    except CycleError as error:
        cycle = " calls ".join(reversed(error.args[1]))
        raise DeclarationError(f"{cycle}: take one of these calls out of infra/services.py") from error


TYPES = TypeAdapter(Service)


def refuse_wrong_types(service: Service) -> None:
    """Refuse values of other types than a declaration has, invalid prefixes, and a migration without a database.

    Raises:
        DeclarationError: there is one; the message says what is wrong.
    """
    where = f"service {service.name!r} in infra/services.py"
    try:
        TYPES.validate_python(service)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"]))
        raise DeclarationError(f"{where} has a wrong {key}: {reason(dict(first))}") from error
    if service.migrates and "postgres" not in service.needs:
        raise DeclarationError(f'{where} migrates, and has no database: add "postgres" to needs, or leave migrates out')


def refuse_wrong_calls(service: Service, others: Collection[str]) -> None:
    """Refuse a call, or a passed token, that leads nowhere.

    Raises:
        DeclarationError: there is one; the message says what is wrong and what to do.
    """
    where = f"service {service.name} in infra/services.py"
    for name in service.calls:
        if name == service.name:
            raise DeclarationError(f"{where} calls itself: take {name} out of calls")
        if name not in others:
            known = ", ".join(sorted(set(others) - {service.name})) or "none besides it"
            raise DeclarationError(f"{where} calls {name}, and there is no such service: calls wants some of {known}")
        if service.calls.count(name) > 1:
            raise DeclarationError(f"{where} calls {name} twice: name it once in calls")
    if unasked := set(service.passes_token_to) - set(service.calls):
        named = ", ".join(sorted(unasked))
        raise DeclarationError(f"{where} passes tokens to {named}, which it does not call: name it in calls, too")


def refuse_wrong_names(service: Service) -> None:
    """Refuse a name that no setting, or no destination, can have.

    Raises:
        DeclarationError: there is one; the message says what is wrong and what to do.
    """
    where = f"service {service.name} in infra/services.py"
    if not re.fullmatch(WORDS, service.name) or len(service.name) > LONGEST_NAME:
        raise DeclarationError(
            f"{where} wants a name of at most {LONGEST_NAME} lower-case letters, digits and single hyphens, a letter first"
        )
    for name in service.variables:
        if not re.fullmatch(VARIABLE, name):
            raise DeclarationError(
                f"{where} has the variable {name!r}: it wants APP_ and the key of a setting, such as APP_MAIL_SENDER"
            )
    for name in service.egress:
        if not re.fullmatch(PLACE, name) or service.egress.count(name) > 1:
            raise DeclarationError(
                f"{where} connects to {name!r}: egress wants names of lower-case letters, digits and -, each once"
            )


def refuse_wrong_secrets(service: Service) -> None:
    """Refuse a secret that no setting can have, or whose setting a variable sets too.

    Raises:
        DeclarationError: there is one; the message says what is wrong and what to do.
    """
    where = f"service {service.name} in infra/services.py"
    for name in service.secrets:
        is_right = re.fullmatch(WORDS, name) and len(name) <= LONGEST_SECRET
        if not is_right or service.secrets.count(name) > 1:
            raise DeclarationError(
                f"{where} has the secret {name!r}: secrets wants names of at most {LONGEST_SECRET} lower-case letters, digits and single"
                " hyphens, each once, such as mail-password"
            )
        variable = secret_variable(name)
        if taken := {variable, f"{variable}_FILE"} & set(service.variables):
            raise DeclarationError(
                f"{where} has the secret {name} and the variable {taken.pop()}: take one of them out"
            )


def refuse_wrong_work(service: Service, others: Collection[str]) -> None:
    """Refuse a job or worker that could not run, or would take the place of something else.

    Raises:
        DeclarationError: there is one; the message says what is wrong and what to do.
    """
    all_work = (*service.jobs, *service.workers)
    for work in all_work:
        kind = "job" if isinstance(work, Job) else "worker"
        where = f"{kind} {work.name!r} of service {service.name} in infra/services.py"
        named = service.workload(work)
        if not re.fullmatch(WORDS, work.name) or len(named) > LONGEST_WORK:
            raise DeclarationError(
                f"{where} wants a name of lower-case letters, digits and single hyphens, with {service.name}- before it of at most {LONGEST_WORK}"
            )
        if (
            work.name in RESERVED
            or named in {*others, GATEWAY}
            or [each.name for each in all_work].count(work.name) > 1
        ):
            raise DeclarationError(
                f"{where} would be {named} in the cluster, which something else is: give it another name"
            )
        if not re.fullmatch(MODULE, work.module) or work.module.partition(".")[0] != service.package:
            raise DeclarationError(f"{where} wants a module of {service.package}, such as {service.package}.tidy")
        for key, value in (("deadline_s", work.deadline_s) if isinstance(work, Job) else ("replicas", work.replicas),):
            if not 1 <= value <= INT32:
                raise DeclarationError(f"{where} wants a {key} of 1 to {INT32}")
        if isinstance(work, Job):
            try:
                schedule(work.schedule)
            except ValueError as error:
                raise DeclarationError(f'{where} has a schedule that {error}, such as schedule="0 3 * * *"') from error


def refuse_one_workload_of_two(services: Sequence[Service]) -> None:
    """Refuse a job or worker with the name of another service's in the cluster: b-c of a, and c of a-b.

    Raises:
        DeclarationError: there is one; the message names both and says what to do.
    """
    owners: dict[str, str] = {}
    for service in services:
        for work in (*service.jobs, *service.workers):
            named = service.workload(work)
            if named in owners:
                raise DeclarationError(
                    f"service {service.name} in infra/services.py has {work.name!r}, which would be {named} in the cluster, as one of"
                    f" {owners[named]} is: give it another name"
                )
            owners[named] = service.name


def refuse_one_prefix_of_two(services: Sequence[Service]) -> None:
    """Refuse a prefix at which the gateway would have to serve two services.

    Raises:
        DeclarationError: there is one; the message names it and says what to do.
    """
    owners: dict[str, str] = {}
    for service, prefix in [(each, prefix) for each in services for prefix in each.prefixes]:
        if prefix in owners:
            raise DeclarationError(
                f"service {service.name} in infra/services.py has the prefix {prefix}, which {owners[prefix]} has: give it another one, such as"
                f" /api/v1/{service.name}"
            )
        owners[prefix] = service.name


def refuse_one_schema_of_two(services: Sequence[Service]) -> None:
    """Refuse a second service in `public`, which would share the first one's login.

    Raises:
        DeclarationError: there is one; the message names it and says what to do.
    """
    names = [service.name for service in services if service.schema == "public"]
    if len(names) > 1:
        raise DeclarationError(
            f'services {" and ".join(names)} in infra/services.py have schema="public": leave it out of all but one of them'
        )


def refuse_one_secret_of_two(services: Sequence[Service]) -> None:
    """Refuse a secret that has the name of another one in a stack's configuration.

    Raises:
        DeclarationError: there is one; the message names it and says what to do.
    """
    seen: dict[str, str] = {}
    for service, secret in [(each, name) for each in services for name in each.secrets]:
        key = service.secret_key(secret)
        other = "a receiver of alerts" if key.startswith(RECEIVER) else seen.get(key)
        if other:
            raise DeclarationError(
                f"service {service.name} in infra/services.py has the secret {secret}, which a stack has as {key}, as it may have one of {other}:"
                " give it another name"
            )
        seen[key] = f"service {service.name}"


SERVICES = (
    Service(
        "user-service",
        needs=("postgres", "redis", "consul"),
        prefixes=("/api/v1/users", "/api/v2/users", "/users"),
        schema="public",
        migrates=True,
    ),
)
NAMES = (GATEWAY, *(service.name for service in SERVICES))
"""Names of everything that is built from apps/."""
CALLEES_FIRST = callees_first(SERVICES)
"""The services, each after those that it calls."""
