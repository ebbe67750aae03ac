"""Effects of the calls that services declare, for declarations of any form."""

import asyncio
from typing import Any

import pulumi
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from servicekit.settings import Called, Settings, load
from servicekit.settings import ServiceSettings as AppSettings

from estate.pulumi import program
from estate.pulumi.program import Registered, against_mocks
from infra.calls import Callee
from infra.namespace import EstateNamespace
from infra.services import DeclarationError, Service, callees_first
from infra.settings.service import ServiceSettings
from infra.stages import EVERY_STAGE
from infra.web_service import PORT, App, WebService
from tests.program.test_network_policies import Connection, entering, leaving, pods_of, policies_of

FEW = settings(max_examples=15, deadline=None)
NAMES = ("orders", "stock-list", "user-service", "a", "b")
RUNS_AS = ServiceSettings.model_validate(EVERY_STAGE["service"])


def service(name: str, *calls: str, **more: Any) -> Service:
    return Service(name, needs=("consul",), prefixes=(), calls=calls, **more)


@st.composite
def declared(draw: st.DrawFn) -> tuple[Service, ...]:
    """Return services that call each other without cycles, in any order."""
    order = draw(st.permutations(NAMES))
    made: list[Service] = []
    for at, name in enumerate(order):
        calls = tuple(draw(st.lists(st.sampled_from(order[:at]), unique=True))) if at else ()
        passes = tuple(draw(st.lists(st.sampled_from(calls), unique=True))) if calls else ()
        made.append(service(name, *calls, passes_token_to=passes))
    return tuple(draw(st.permutations(made)))


def running(services: tuple[Service, ...]) -> list[Registered]:
    """Return the resources of services that call each other, and need nothing else."""

    def run() -> None:
        namespace = EstateNamespace("estate-test", pulumi.ResourceOptions())
        by_name = {each.name: each for each in services}
        for each in services:
            needs = tuple(Callee(by_name[name], each) for name in each.calls)
            WebService(App(each.name, pulumi.Output.from_input("image"), needs), RUNS_AS, namespace, depends_on=[])

    asyncio.set_event_loop(program.LOOP)
    return against_mocks(run, "estate", "test")


def environment(registered: list[Registered], name: str) -> dict[str, str]:
    (deployment,) = [r for r in registered if r.name == name and r.type.endswith(":Deployment")]
    (container,) = deployment.inputs["spec"]["template"]["spec"]["containers"]
    return {entry["name"]: entry["value"] for entry in container["env"] if "value" in entry}


def model(calls: tuple[str, ...]) -> type[AppSettings]:
    """Return the settings model of a service that calls others."""
    fields = {name.replace("-", "_"): Called(url="http://localhost") for name in calls}
    table = type("Calls", (Settings,), {"__annotations__": dict.fromkeys(fields, Called), **fields})
    more = {"__annotations__": {"calls": table}, "calls": table()} if calls else {}
    return type("Made", (AppSettings,), {"__module__": __name__, **more})


@FEW
@given(declared())
def test_a_caller_may_connect_to_the_services_it_calls_and_to_no_other(services: tuple[Service, ...]) -> None:
    registered = running(services)
    pods, policies = pods_of(registered), policies_of(registered)
    wanted: set[Connection] = {(each.name, callee, "TCP", PORT) for each in services for callee in each.calls}
    assert leaving(policies, pods) == entering(policies, pods) == wanted


@FEW
@given(declared())
def test_who_calls_has_the_address_and_whether_the_token_goes_along_in_settings_that_it_reads(
    services: tuple[Service, ...],
) -> None:
    registered = running(services)
    for each in services:
        found: Any = load(model(each.calls), environment(registered, each.name) | {"APP_SERVICE_NAME": each.name}, ())
        for callee in each.calls:
            called: Called = getattr(found.calls, callee.replace("-", "_"))
            assert called.url == f"http://{callee}:8080"
            assert called.passes_token == (callee in each.passes_token_to)
        assert not [name for name in environment(registered, each.name) if "_CALLS_" in name] or each.calls


@given(declared())
def test_a_service_comes_after_those_that_it_calls(services: tuple[Service, ...]) -> None:
    names = [each.name for each in callees_first(services)]
    assert sorted(names) == sorted(NAMES)
    for each in services:
        assert all(names.index(callee) < names.index(each.name) for callee in each.calls)


@given(declared(), st.data())
def test_a_call_back_is_refused_however_long_the_way_is(services: tuple[Service, ...], data: st.DataObject) -> None:
    order = callees_first(services)
    at = data.draw(st.integers(1, len(order) - 1))
    caller, callee = order[at], order[data.draw(st.integers(0, at - 1))]
    back = service(callee.name, *callee.calls, caller.name)
    forth = service(caller.name, *{*caller.calls, callee.name})
    others = [each for each in services if each.name not in (caller.name, callee.name)]
    with pytest.raises(
        DeclarationError, match=r"\w calls [\w-]+ calls .*take one of these calls out of infra/services.py"
    ):
        callees_first([back, forth, *others])


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (service("orders", "user-servise"), "orders in infra/services.py calls user-servise, and there is no such service: calls wants some of user-service"),
        (service("orders", "api-gateway"), "orders in infra/services.py calls api-gateway, and there is no such service"),
        (service("orders", "orders"), "orders in infra/services.py calls itself: take orders out of calls"),
        (service("orders", "user-service", "user-service"), "calls user-service twice: name it once in calls"),
        (service("orders", passes_token_to=("user-service",)), "passes tokens to user-service, which it does not call: name it in calls, too"),
    ],
    ids=["unknown", "gateway", "itself", "twice", "token"],
)  # fmt: skip
def test_a_call_that_leads_nowhere_is_refused_with_what_to_do(wrong: Service, said: str) -> None:
    with pytest.raises(DeclarationError) as raised:
        callees_first([service("user-service"), wrong])
    assert said in str(raised.value)


def test_the_public_schema_is_of_one_service() -> None:
    one, other = (
        Service(name, needs=("postgres",), prefixes=(f"/{name}",), schema="public") for name in ("news", "mail")
    )
    callees_first((one,))
    with pytest.raises(DeclarationError, match=r'services news and mail in infra/services\.py have schema="public"'):
        callees_first((one, other))


@pytest.mark.parametrize("owner", ["orders", "stock-list"])
def test_a_prefix_is_of_one_service(owner: str) -> None:
    one, other = Service(owner, needs=(), prefixes=("/a", "/b")), Service("news", needs=(), prefixes=("/c", "/b"))
    with pytest.raises(
        DeclarationError, match=f"service news in infra/services.py has the prefix /b, which {owner} has"
    ):
        callees_first((one, other))
