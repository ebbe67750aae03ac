"""The database is lost, in part and as a whole, and is restored from a backup."""

import uuid
from typing import Any

import httpx
import pytest

from estate.ops.backups import of_cron_job, run_job
from estate.stack.model import Stack
from infra.database_backups import NAME as BACKUP
from infra.database_backups import RESTORE
from tests.support.running import STACK, Kubectl, create, eventually, reads_back
from tests.support.stacks import estate, succeed

SUMS = """
SELECT format(
  'SELECT %L, count(*), coalesce(md5(string_agg(t::text, chr(10) ORDER BY t::text)), %L) FROM %s AS t',
  relname, 'empty', oid::regclass
) FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' ORDER BY relname \\gexec
SELECT sequencename, last_value FROM pg_sequences ORDER BY sequencename;
"""
"""Query for the name, row count and checksum of every table, and the position of every sequence."""
NEW_USERS = 50


def psql(kubectl: Kubectl, statements: str) -> str:
    """Return the output of psql as superuser, inside the pod."""
    shell = 'psql -qAtX -v ON_ERROR_STOP=1 --dbname=myapp <<"SQL"\n' + statements + "\nSQL"
    return kubectl("exec", "statefulset/postgres", "--", "sh", "-c", shell)


def users(client: httpx.Client) -> list[dict[str, Any]]:
    return [
        create(client, {"name": "Kept", "email": f"kept-{uuid.uuid4().hex}@example.com", "age": n % 150})
        for n in range(NEW_USERS)
    ]


def last_restore(kubectl: Kubectl) -> str:
    """Return the time of the last successful restore, as kube-state-metrics reports it; empty for never."""
    return kubectl("get", "cronjob", RESTORE, "--output=jsonpath={.status.lastSuccessfulTime}")


def drop_schema(kubectl: Kubectl) -> None:
    psql(kubectl, "DROP SCHEMA public CASCADE; CREATE SCHEMA public AUTHORIZATION pg_database_owner;")


def lose_volume(kubectl: Kubectl) -> None:
    kubectl("delete", "persistentvolumeclaim", "data-postgres-0", "--wait=false")
    kubectl("delete", "pod", "postgres-0", "--wait=true")

    def new_and_empty() -> bool:
        claim = kubectl("get", "persistentvolumeclaim", "data-postgres-0", "--ignore-not-found", "--output=name")
        return bool(claim) and psql(kubectl, "SELECT count(*) FROM pg_roles WHERE rolname = 'myuser'").strip() == "0"

    kubectl("rollout", "status", "statefulset/postgres", "--timeout=120s")
    eventually(new_and_empty, "an empty database", 60)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("lose", [drop_schema, lose_volume])
def test_what_was_lost_comes_back_from_the_newest_backup(client: httpx.Client, kubectl: Kubectl, lose: Any) -> None:
    kept = users(client)
    found = [client.get(f"/api/v1/users/{user['id']}").json() for user in kept]
    assert found == kept  # Redis caches them
    succeed("backup", "create", stack=STACK)
    before = psql(kubectl, SUMS)
    late = create(client, {"name": "Late", "email": f"late-{uuid.uuid4().hex}@example.com", "age": 1})
    assert reads_back(client, late)
    lose(kubectl)
    assert psql(kubectl, SUMS) != before
    restored = last_restore(kubectl)
    succeed("restore", "--yes", stack=STACK)
    assert psql(kubectl, SUMS) == before
    eventually(lambda: last_restore(kubectl) > restored, "the restore is remembered", 30)
    eventually(lambda: reads_back(client, kept[0]), "the API answers", 30)
    assert all(reads_back(client, user) for user in kept)
    assert client.get(f"/api/v1/users/{late['id']}").status_code == 404, "Redis remembers what is no longer true"
    again = create(client, {"name": "Late", "email": late["email"], "age": 2})
    assert reads_back(client, again)
    client.delete(f"/api/v1/users/{again['id']}", headers={"If-Match": "*"})
    for user in kept:
        client.delete(f"/api/v1/users/{user['id']}", headers={"If-Match": "*"})


@pytest.fixture(scope="module")
def backup() -> None:
    """Ensure that there is a backup."""
    succeed("backup", "create", stack=STACK)


DAMAGE = """
set -eu
cd /backups
newest=$(ls *.dump | tail -n 1)
head -c $(($(stat -c %s $newest) * 2 / 3)) $newest >20000101T000000Z.dump
sed s/$newest/20000101T000000Z.dump/ $newest.sha256 >20000101T000000Z.dump.sha256
cp 20000101T000000Z.dump 20000102T000000Z.dump
sha256sum 20000102T000000Z.dump >20000102T000000Z.dump.sha256
"""
"""Script that makes two truncated dumps: the checksum of one does not match, that of the other does."""


@pytest.mark.timeout(300)
@pytest.mark.usefixtures("backup")
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("20000101T000000Z.dump", "its checksum is another"),
        ("20000102T000000Z.dump", "could not read from input file"),
        ("20000103T000000Z.dump", "there is no backup 20000103T000000Z.dump"),
    ],
)
def test_a_backup_that_is_damaged_or_absent_changes_nothing(
    stack: Stack, client: httpx.Client, new_user: dict[str, Any], kubectl: Kubectl, name: str, said: str
) -> None:
    damaging = of_cron_job(stack, BACKUP)
    damaging["spec"]["template"]["spec"]["containers"][0]["command"] = ["bash", "-c", DAMAGE]
    run_job(stack, damaging)
    create(client, new_user)
    before = psql(kubectl, SUMS)
    done = estate("restore", name, "--yes", stack=STACK)
    assert done.returncode != 0
    assert said in done.stderr
    assert psql(kubectl, SUMS) == before


def test_a_restore_without_confirmation_is_refused() -> None:
    done = estate("restore", stack=STACK)
    assert done.returncode != 0
    assert "--yes" in done.stderr
