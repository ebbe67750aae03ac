"""Resources for an externally managed database: only the access to it."""

import pulumi
import pytest

from estate.pulumi import program
from estate.pulumi.program import CANARY, Registered, run_with, settings_of
from tests.program.conftest import MANAGED, managed
from tests.program.test_network_policies import leaving, pods_of, policies_of
from tests.program.test_program import containers, files, kind, one, template
from tests.support.flows import BEHIND, MIGRATIONS, WORK

CLIENTS = {
    *(name for name, needs in (BEHIND | WORK).items() if "postgres" in needs),
    *MIGRATIONS,
    "postgres-roles",
    "postgres-backup",
    "postgres-restore",
    "postgres-metrics",
}


@pytest.fixture
def resources() -> list[Registered]:
    """Return the resources of stack `prod`, with a managed database."""
    return managed()


def test_no_server_is_made(resources: list[Registered]) -> None:
    assert [kind(resource) for resource in resources if resource.name == "postgres"] == []


def test_only_what_needs_it_may_connect_to_its_networks(resources: list[Registered]) -> None:
    pods, policies = pods_of(resources), policies_of(resources)
    (network,) = MANAGED["networks"]
    to_it = {to for to in leaving(policies, pods) if to[1] == network}
    assert to_it == {(client, network, "TCP", 6432) for client in CLIENTS}
    assert not [name for name in policies if name.startswith("postgres-from-")]


def test_programs_log_in_as_its_admin_and_verify_its_name_by_its_authority(resources: list[Registered]) -> None:
    for of, username in (("Job", "myadmin"), ("CronJob", "backup")):
        name = "postgres-roles" if of == "Job" else "postgres-backup"
        (container,) = containers(template(one(resources, of, name))["spec"])
        environment = {entry["name"]: entry["value"] for entry in container["env"]}
        assert (environment["PGHOST"], environment["PGPORT"]) == (MANAGED["host"], "6432")
        assert (environment["PGUSER"], environment["PGSSLMODE"]) == (username, "verify-full")
        assert files(resources, name)["ca.crt"] == MANAGED["ca"]
    assert files(resources, "postgres-roles")["password"] == CANARY


def test_services_verify_it_too(resources: list[Registered]) -> None:
    (container,) = template(one(resources, "Deployment", "user-service"))["spec"]["containers"]
    environment = {entry["name"]: entry.get("value") for entry in container["env"]}
    assert environment["APP_DATABASE_HOST"] == MANAGED["host"]
    assert environment["APP_DATABASE_PORT"] == "6432"
    assert files(resources, "user-service")["database-ca.crt"] == MANAGED["ca"]


def test_a_password_that_was_not_given_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "GIVEN", ())
    settings = settings_of("local") | {"postgres": {"kind": "managed", "managed": MANAGED}}
    with pytest.raises(pulumi.RunError, match="estate secret set postgresPassword --stack local asks for it"):
        run_with("local", settings)
