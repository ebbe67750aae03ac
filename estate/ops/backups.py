"""`estate backup create` and `estate restore`: dump the database now, and replace its contents with a dump."""

import json
import time
from typing import Any

from estate.core.console import EstateError, UsageError, confirm, say, step, wait_until
from estate.ops.starting import Starts
from estate.ops.update import opened
from estate.stack.model import OURS, Stack, ask, load, outputs
from estate.stack.target import target
from infra import redis
from infra.database_backups import NAME as BACKUP
from infra.database_backups import RESTORE

DEADLINE_S = 3600
MIGRATION = "-migration"
"""Suffix of the names of Jobs that migrate a database."""


def backup(name: str) -> None:
    """Make a backup, and print the output of its Job.

    Raises:
        EstateError: it failed; with its output.
    """
    stack = Stack(name, load(name), target())
    outputs(stack)  # a stack that is not up is refused
    with step("backup"):
        said = run_job(stack, of_cron_job(stack, BACKUP))
    say(said)


def restore(name: str, chosen: str | None = None, *, agreed: bool = False) -> None:
    """Replace the contents of the database with a backup.

    Args:
        name: the name of the stack.
        chosen: the name of the backup; the newest if it is None.
        agreed: whether it is agreed that later data is lost.

    Raises:
        EstateError: the restore was not confirmed; or it failed, and nothing has changed.
        UsageError: the name of the backup is empty.
    """
    if chosen == "":  # such as an unset variable of a script
        raise UsageError("the name of the backup is empty: leave it out for the newest")
    with opened(name) as stack:
        outputs(stack)
        becomes = f"The database of stack {name} will be what it was in {chosen or 'its newest backup'}."
        confirm(
            f"{becomes} Whatever was written since is lost.",
            name,
            f"estate restore --stack {name} --yes",
            agreed=agreed,
        )
        with step("restore"):
            said = run_job(stack, with_environment(of_cron_job(stack, RESTORE), {"FROM": chosen or ""}))
        say(said)
        with step("migrations since then"):
            for job in migrations(stack):
                run_job(stack, job)
        with step("Redis forgets what it remembers"):
            ask(stack, "delete", "pod", f"--selector=app.kubernetes.io/name={redis.NAME}", limit_s=120)
            ask(stack, "rollout", "status", f"deployment/{redis.NAME}", "--timeout=120s", limit_s=0)


def of_cron_job(stack: Stack, name: str) -> dict[str, Any]:
    """Return a Job from a CronJob's template, with the time in its name."""
    job = f"{name}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}"
    return json.loads(ask(stack, "create", "job", job, f"--from=cronjob/{name}", "--dry-run=client", "-o", "json"))


def with_environment(job: dict[str, Any], environment: dict[str, str]) -> dict[str, Any]:
    """Return a Job with variables added to the environment of its containers."""
    for container in job["spec"]["template"]["spec"]["containers"]:
        container["env"] += [{"name": name, "value": value} for name, value in environment.items()]
    return job


def migrations(stack: Stack) -> list[dict[str, Any]]:
    """Return copies of the stack's migration Jobs to run again: a backup may be older than the last migration."""
    found = json.loads(ask(stack, "get", "jobs", OURS, "-o", "json"))["items"]
    jobs = sorted(found, key=lambda job: job["metadata"]["creationTimestamp"])  # the newest of each name wins
    named = {job["metadata"]["labels"].get("app.kubernetes.io/name", ""): job for job in jobs}
    return [once_more(name, job) for name, job in named.items() if name.endswith(MIGRATION)]


def once_more(name: str, job: dict[str, Any]) -> dict[str, Any]:
    """Return a new Job with the spec of one that has run."""
    # Without the labels that the cluster adds to assign a pod to its Job.
    labels = {key: value for key, value in job["metadata"]["labels"].items() if key.startswith("app.kubernetes.io/")}
    pod = job["spec"]["template"]["spec"]
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": f"{name}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}"},
        "spec": {
            "backoffLimit": job["spec"]["backoffLimit"],
            "ttlSecondsAfterFinished": DEADLINE_S,
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }


def run_job(stack: Stack, job: dict[str, Any]) -> str:
    """Run a Job to its end, and return its logs.

    Raises:
        EstateError: it failed; with its logs.
    """
    name = job["metadata"]["name"]
    ask(stack, "create", "--filename=-", given=json.dumps(job))
    state: dict[str, Any] = {}
    starts = Starts(stack, name)

    def ended() -> bool:
        nonlocal state
        if reason := starts.hopeless():
            ask(stack, "delete", "job", name, "--wait=false")
            raise EstateError(f"the Job {name} cannot start, and was deleted: {reason}")
        try:
            state = json.loads(ask(stack, "get", "job", name, "-o", "json"))["status"]
        except EstateError:
            return False  # retried: the Job continues while the API server is unavailable
        return bool(state.get("succeeded") or any(c["type"] == "Failed" for c in state.get("conditions", ())))

    wait_until(ended, f"the end of the Job {name} (kubectl describe job {name} says why)", DEADLINE_S, every_s=2)
    said = ask(stack, "logs", f"job/{name}", "--all-containers").strip()
    if not state.get("succeeded"):
        raise EstateError(f"the Job {name} failed:\n{said}")
    return said
