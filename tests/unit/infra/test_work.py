"""Jobs and workers that a service declares."""

from dataclasses import replace
from typing import Any

import pytest
from servicekit import working

from infra import work
from infra.services import DeclarationError, Job, Service, Worker, callees_first


def orders(*work: Job | Worker, name: str = "orders") -> Service:
    jobs = tuple(each for each in work if isinstance(each, Job))
    return Service(name, (), (), jobs=jobs, workers=tuple(each for each in work if isinstance(each, Worker)))


def tidy(**more: Any) -> Job:
    return replace(Job("tidy", schedule="0 3 * * *", module="orders.tidy"), **more)


def mailer(**more: Any) -> Worker:
    return replace(Worker("mailer", module="orders.mailer"), **more)


def test_jobs_and_workers_are_taken_as_they_are_declared() -> None:
    declared = orders(tidy(), tidy(name="count", schedule="@hourly"), mailer(replicas=2))
    assert callees_first([declared]) == (declared,)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (orders(tidy(name="Tidy")), "job 'Tidy' of service orders in infra/services.py wants a name of lower-case letters"),
        (orders(tidy(name="")), "wants a name of lower-case letters"),
        (orders(mailer(name="m" * 46)), "with orders- before it of at most 52"),
        (orders(tidy(), mailer(name="tidy")), "would be orders-tidy in the cluster, which something else is: give it another name"),
        (orders(tidy(), tidy()), "would be orders-tidy in the cluster"),
        (orders(tidy(name="migration")), "would be orders-migration in the cluster"),
        (orders(mailer(name="pods")), "would be orders-pods in the cluster"),
        (orders(mailer(name="gateway", module="api.x"), name="api"), "would be api-gateway in the cluster"),
        (orders(mailer(name="lines")), "would be orders-lines in the cluster"),
        (orders(tidy(module="tidy")), "wants a module of orders, such as orders.tidy"),
        (orders(tidy(module="orders.tidy; id")), "wants a module of orders"),
        (orders(tidy(module="user_service.migrate")), "wants a module of orders"),
        (orders(tidy(schedule="often")), "has a schedule that wants minute, hour, day of the month"),
        (orders(tidy(schedule="0 3 31 2 *")), "has a schedule that wants a day that its months have"),
        (orders(tidy(schedule="TZ=UTC 0 3 * * *")), "has a schedule that wants no time zone"),
        (orders(tidy(deadline_s=0)), "wants a deadline_s of 1 to 2147483647"),
        (orders(mailer(replicas=0)), "wants a replicas of 1 to 2147483647"),
    ],
)  # fmt: skip
def test_what_could_not_run_is_refused_with_what_to_do(wrong: Service, said: str) -> None:
    with pytest.raises(DeclarationError) as raised:
        callees_first([wrong, Service("orders-lines", (), ())])
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_the_probes_look_at_the_file_that_workers_write() -> None:
    assert str(working.HEARTBEAT) == work.HEARTBEAT
    assert working.BEAT_EVERY_S * 3 < work.STALE_S
