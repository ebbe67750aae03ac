"""Variables and places outside that a service has of its own."""

import asyncio
from typing import Any

import pulumi
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra import settings as module
from infra.migration import Migration
from infra.namespace import EstateNamespace
from infra.redis import Redis
from infra.services import DeclarationError, Service, callees_first
from infra.settings import Outside, ServiceSettings, SettingsError, parse
from infra.stages import EVERY_STAGE
from infra.web_service import App, Dependency, WebService
from tests.estate.test_network_policies import entering, leaving, pods_of, policies_of
from tests.minimum import MINIMUM
from toolchain import program
from toolchain.program import Registered, against_mocks

NAMES = st.from_regex(r"APP_MAIL_[A-Z]{1,8}", fullmatch=True)
VARIABLES = st.dictionaries(NAMES, st.text(max_size=20), max_size=4)
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


def running(variables: dict[str, str], outside: dict[str, Outside]) -> list[Registered]:
    """Return what is registered for a service, its migration and the Redis that both are given."""

    def run() -> None:
        namespace = EstateNamespace("estate-test", pulumi.ResourceOptions())
        password = pulumi.Output.from_input("")
        redis: Dependency = Redis("image", password, namespace)
        image = pulumi.Output.from_input("image")
        Migration(orders(), image, variables, redis, namespace, depends_on=[])
        app = App("orders", image, (redis,), variables=variables, outside=outside)
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
    ],
    ids=str,
)
def test_names_that_cannot_be_are_refused_with_what_to_do(wrong: Service, said: str) -> None:
    with pytest.raises(DeclarationError) as raised:
        callees_first([wrong])
    assert said in str(raised.value)


def test_a_stack_gives_other_values_and_says_where_places_are(monkeypatch: pytest.MonkeyPatch) -> None:
    own = Service("user-service", (), (), variables={"APP_A": "a", "APP_B": "b"}, egress=("mail",))
    monkeypatch.setattr(module, "SERVICES", (own,))
    mail = {"networks": ["192.0.2.0/24"], "port": 587}
    given = {**MINIMUM, "services": {"user-service": {"variables": {"APP_B": "c"}}}, "outside": {"mail": mail}}
    found = parse(given, "here")
    assert found.variables_of(own) == {"APP_A": "a", "APP_B": "c"}
    assert found.outside_of(own) == {"mail": Outside.model_validate(mail)}
    assert parse({**MINIMUM, "outside": {"mail": mail}}, "here").variables_of(own) == own.variables


def test_a_stack_that_does_not_say_where_a_place_is_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    own = Service("user-service", (), (), egress=("mail",))
    monkeypatch.setattr(module, "SERVICES", (own,))
    with pytest.raises(
        SettingsError, match=r"outside: lacks mail, to which user-service connects, such as outside: \{mail: "
    ):
        parse(MINIMUM, "here")
