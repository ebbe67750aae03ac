"""Variables, secrets and external addresses that a service declares for itself."""

import asyncio
import re
import textwrap
import types
from pathlib import Path
from typing import Any

import pulumi
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr
from servicekit.settings import Cache, DatabaseSettings, Settings, load
from servicekit.settings import SettingsError as AppSettingsError

from estate.core.paths import PROJECT
from estate.pulumi import program
from estate.pulumi.program import CANARY, Registered, against_mocks, run_with, settings_of
from infra import services as declarations
from infra.migration import Migration
from infra.namespace import EstateNamespace
from infra.redis import Redis
from infra.services import DeclarationError, Job, Service, Worker, callees_first
from infra.settings.load import parse
from infra.settings.service import Outside, ServiceSettings
from infra.stack_file import SettingsError
from infra.stages import EVERY_STAGE
from infra.web_service import SECRETS_FOLDER, App, Dependency, WebService
from tests.program.test_network_policies import entering, leaving, pods_of, policies_of
from tests.support.declarations import declare
from tests.support.minimum import MINIMUM

NAMES = st.from_regex(r"APP_MAIL_[A-Z]{1,8}", fullmatch=True)
VARIABLES = st.dictionaries(NAMES, st.text(max_size=20), max_size=4)
SECRETS = st.dictionaries(st.from_regex(r"bank(-[a-z]{1,4}){1,2}", fullmatch=True), st.text(max_size=20), max_size=4)
PLACES = st.dictionaries(
    st.from_regex(r"[a-z]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True),
    st.tuples(st.integers(0, 255), st.integers(1, 65535)).map(
        lambda at: Outside(networks=[f"192.0.{at[0]}.0/24"], port=at[1])
    ),
    max_size=3,
)
RUNS_AS = ServiceSettings.model_validate(EVERY_STAGE["service"])


def orders(**more: Any) -> Service:
    return Service("orders", needs=("redis",), prefixes=(), **more)


def running(
    variables: dict[str, str], outside: dict[str, Outside], secrets: dict[str, str] | None = None
) -> list[Registered]:
    """Return the resources of a service, its migration and the Redis that both use."""

    def run() -> None:
        namespace = EstateNamespace("estate-test", pulumi.ResourceOptions())
        password = pulumi.Output.from_input("")
        redis: Dependency = Redis("image", password, namespace)
        image = pulumi.Output.from_input("image")
        kept = {name: pulumi.Output.secret(value) for name, value in (secrets or {}).items()}
        Migration(orders(), image, variables, kept, redis, namespace, depends_on=[])
        app = App("orders", image, (redis,), variables=variables, own_secrets=kept, outside=outside)
        WebService(app, RUNS_AS, namespace, depends_on=[])

    asyncio.set_event_loop(program.LOOP)
    return against_mocks(run, "estate", "test")


def environments(registered: list[Registered]) -> list[dict[str, str]]:
    """Return the variables of the service and of its migration."""
    pods = [
        r.inputs["spec"]["template"]["spec"]
        for r in registered
        if r.name.startswith("orders") and "template" in r.inputs.get("spec", {})
    ]
    return [{entry["name"]: entry.get("value") for entry in pod["containers"][0]["env"]} for pod in pods]


@settings(max_examples=15, deadline=None)
@given(VARIABLES, PLACES)
def test_a_service_has_its_variables_and_may_connect_where_it_says_and_nowhere_else(
    variables: dict[str, str], outside: dict[str, Outside]
) -> None:
    registered = running(variables, outside)
    found = environments(registered)
    assert len(found) == 2
    for environment in found:
        assert environment.items() >= variables.items()
        assert {name for name in environment if name.startswith("APP_MAIL_")} == set(variables)
    pods, policies = pods_of(registered), policies_of(registered)
    to_redis = {(name, "redis", "TCP", 6379) for name in ("orders", "orders-migration")}
    places = {("orders", place.networks[0], "TCP", place.port) for place in outside.values()}
    assert leaving(policies, pods) == to_redis | places
    assert entering(policies, pods) == to_redis


@settings(max_examples=15, deadline=None)
@given(SECRETS)
def test_a_service_and_its_migration_have_its_secrets_as_files_that_variables_name(secrets: dict[str, str]) -> None:
    registered = running({}, {}, secrets)
    for environment in environments(registered):
        named = {name: value for name, value in environment.items() if name.startswith("APP_BANK_")}
        assert named == {f"APP_{name.upper().replace('-', '_')}_FILE": f"{SECRETS_FOLDER}/{name}" for name in secrets}
    held = [r.inputs["stringData"]["value"] for r in registered if r.name.startswith("orders") and ":Secret" in r.type]
    assert len(held) == 2
    assert all(each.items() >= secrets.items() for each in held)


@pytest.mark.parametrize("stack", ["local", "prod"])
def test_the_typed_settings_of_a_service_read_what_the_stack_was_given(
    stack: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Mail(Settings):
        password: SecretStr

    class Own(DatabaseSettings):
        cache: Cache = Cache()
        mail: Mail

    own = Service("user-service", ("postgres", "redis", "consul"), (), secrets=("mail-password",), migrates=True)
    monkeypatch.setattr(declarations, "SERVICES", (own,))
    monkeypatch.setattr(declarations, "CALLEES_FIRST", (own,))
    declare(monkeypatch, own)
    registered = run_with(stack, settings_of(stack))
    for name in ("user-service", "user-service-migration"):
        (workload,) = [r for r in registered if r.name == name and r.type.endswith((":Deployment", ":Job"))]
        (secret,) = [r for r in registered if r.name == name and r.type.endswith(":Secret")]
        pod = workload.inputs["spec"]["template"]["spec"]
        assert {"name": "secrets", "mountPath": SECRETS_FOLDER, "readOnly": True} in pod["containers"][0][
            "volumeMounts"
        ]
        for file, content in secret.inputs["stringData"]["value"].items():
            (tmp_path / file).write_text(content)
        environment = {
            entry["name"]: entry.get("value", "192.0.2.1").replace(SECRETS_FOLDER, str(tmp_path))
            for entry in pod["containers"][0]["env"]
        }
        assert load(Own, environment, ()).mail.password.get_secret_value() == CANARY


def test_the_settings_that_the_page_shows_read_the_secret_and_want_it(tmp_path: Path) -> None:
    page = (PROJECT / "docs" / "new-service.md").read_text().partition("## Secrets of its own")[2]
    (shown,) = re.findall(r"```python\n(.*?)```", page.partition("\n## ")[0], re.DOTALL)
    found = types.ModuleType("shown")
    exec(textwrap.dedent(shown), found.__dict__)  # noqa: S102 - the page's own
    (tmp_path / "mail-password").write_text("hunter2\n")
    given = {"APP_MAIL_PASSWORD_FILE": str(tmp_path / "mail-password")}
    assert load(found.OrdersSettings, given, ()).mail.password.get_secret_value() == "hunter2"
    with pytest.raises(AppSettingsError, match=r"mail: field required"):
        load(found.OrdersSettings, {}, ())


def test_a_stack_without_a_value_is_refused_with_the_command_that_gives_it(monkeypatch: pytest.MonkeyPatch) -> None:
    own = Service("user-service", ("consul",), (), secrets=("mail-password", "bank-key"))
    declare(monkeypatch, own)
    with pytest.raises(pulumi.RunError) as raised:  # program.py passes the declared ones alone
        run_with("dev", settings_of("dev"))
    lines = str(raised.value).splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        "the secret user-service-mail-password is missing",
        "the secret user-service-bank-key is missing",
    ]
    assert "estate secret set user-service-bank-key --stack dev asks for it" in lines[1]
    assert "pulumi config set --secret estate:user-service-bank-key takes it" in lines[1]


@pytest.mark.parametrize("name", ["cache-password", "cache-host", "server-port", "service-name"])
def test_a_secret_in_the_place_of_what_is_set_already_is_refused(name: str) -> None:
    with pytest.raises(DeclarationError, match=f"orders in infra/services.py has the secret {name}, which follows"):
        running({}, {}, {name: "x"})


@pytest.mark.parametrize(
    "name", ["APP_SERVER_PORT", "APP_SERVICE_ADDRESS", "APP_CACHE_HOST", "APP_CACHE_HOST_FILE", "APP_CACHE_PASSWORD"]
)
def test_a_variable_in_the_place_of_one_that_is_set_already_is_refused(name: str) -> None:
    with pytest.raises(DeclarationError, match=f"orders in infra/services.py has the variable {name}, which follows"):
        running({name: "x"}, {})


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (orders(variables={"MAIL_HOST": "x"}), "has the variable 'MAIL_HOST': it wants APP_"),
        (orders(variables={"app_mail": "x"}), "has the variable 'app_mail': it wants APP_"),
        (orders(egress=("Mail",)), "connects to 'Mail': egress wants names of lower-case letters"),
        (orders(egress=("mail-",)), "connects to 'mail-'"),
        (orders(egress=("mail", "mail")), "each once"),
        (
            orders(secrets=("mailPassword",)),
            "has the secret 'mailPassword': secrets wants names of at most 60 lower-case",
        ),
        (orders(secrets=("mail_password",)), "has the secret 'mail_password'"),
        (orders(secrets=("mail--password",)), "has the secret 'mail--password'"),
        (orders(secrets=("",)), "has the secret ''"),
        (orders(secrets=("m" * 61,)), "has the secret 'mmm"),
        (orders(secrets=("mail", "mail")), "each once, such as mail-password"),
        (
            orders(secrets=("mail-password",), variables={"APP_MAIL_PASSWORD": "x"}),
            "has the secret mail-password and the variable APP_MAIL_PASSWORD: take one of them out",
        ),
        (
            orders(secrets=("mail-password",), variables={"APP_MAIL_PASSWORD_FILE": "x"}),
            "has the secret mail-password and the variable APP_MAIL_PASSWORD_FILE",
        ),
        (
            Service("receiver", (), (), secrets=("pager",)),
            "has the secret pager, which a stack has as receiver-pager, as it may have one of a receiver of alerts",
        ),
    ],
    ids=str,
)
def test_names_that_cannot_be_are_refused_with_what_to_do(wrong: Service, said: str) -> None:
    with pytest.raises(DeclarationError) as raised:
        callees_first([wrong])
    assert said in str(raised.value)


untyped: Any = Service
untyped_worker: Any = Worker
untyped_job: Any = Job


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (untyped("a", (), ("a/",)), "has a wrong prefixes.0: wants the beginning of a path"),
        (untyped("a", (), ("/docs/x",)), "has a wrong prefixes.0: the gateway itself answers there"),
        (untyped("a", (), "/a"), "has a wrong prefixes: "),
        (untyped("a", ("mysql",), ("/a",)), "has a wrong needs.0: wants 'postgres', 'redis' or 'consul'"),
        (untyped("a", (), (), calls="user-service"), "has a wrong calls: "),
        (untyped("a", (), (), egress="mail"), "has a wrong egress: "),
        (untyped("a", (), (), variables={"APP_X": 5}), "has a wrong variables.APP_X: wants a text"),
        (untyped("a", (), (), workers=(untyped_worker("b", "a.x", replicas="2"),)), "has a wrong workers.0.replicas: wants a whole number"),
        (untyped("a", (), (), jobs=(untyped_job("b", 3, "a.x"),)), "has a wrong jobs.0.schedule: wants a text"),
        (untyped("a", (), (), jobs=untyped_job("b", "@daily", "a.x")), "has a wrong jobs: "),
        (untyped("a", ("consul",), ("/a",), migrates=True), 'add "postgres" to needs'),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_a_declaration_of_other_types_is_refused_in_a_line(wrong: Service, said: str) -> None:
    with pytest.raises(DeclarationError) as raised:
        callees_first([wrong])
    assert str(raised.value).startswith("service 'a' in infra/services.py ")
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_service_is_declared_once() -> None:
    with pytest.raises(DeclarationError, match="service a is declared twice"):
        callees_first([Service("a", (), ("/a",)), Service("a", (), ("/b",))])


def test_two_workers_have_two_names_in_the_cluster() -> None:
    first = Service("a", (), ("/a",), workers=(Worker("b-c", "a.x"),))
    second = Service("a-b", (), ("/b",), workers=(Worker("c", "a_b.x"),))
    with pytest.raises(DeclarationError, match="would be a-b-c in the cluster, as one of a is"):
        callees_first([first, second])


def test_secrets_that_a_stack_could_not_tell_apart_are_refused_with_what_to_do() -> None:
    first = Service("a", (), (), secrets=("b-c",))
    second = Service("a-b", (), (), secrets=("c",))
    with pytest.raises(DeclarationError) as raised:
        callees_first([first, second])
    assert str(raised.value) == (
        "service a-b in infra/services.py has the secret c, which a stack has as a-b-c, as it may have one of service a: give it another name"
    )


def test_a_stack_gives_other_values_and_says_where_places_are(monkeypatch: pytest.MonkeyPatch) -> None:
    own = Service("user-service", (), (), variables={"APP_A": "a", "APP_B": "b"}, egress=("mail",))
    declare(monkeypatch, own)
    mail = {"networks": ["192.0.2.0/24"], "port": 587}
    given = {**MINIMUM, "services": {"user-service": {"variables": {"APP_B": "c"}}}, "outside": {"mail": mail}}
    found = parse(given, "here")
    assert found.variables_of(own) == {"APP_A": "a", "APP_B": "c"}
    assert found.outside_of(own) == {"mail": Outside.model_validate(mail)}
    assert parse({**MINIMUM, "outside": {"mail": mail}}, "here").variables_of(own) == own.variables


def test_a_stack_that_does_not_say_where_a_place_is_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    own = Service("user-service", (), (), egress=("mail",))
    declare(monkeypatch, own)
    with pytest.raises(
        SettingsError, match=r"outside: lacks mail, to which user-service connects, such as outside: \{mail: "
    ):
        parse(MINIMUM, "here")
