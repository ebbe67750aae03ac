"""`make up`, `down`, `preview`, `url` and `secret`."""

import getpass
import json
import re
import ssl
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx

from estate.cluster import layout, lifecycle
from estate.cluster.standins import publish_missing
from estate.cluster.tools import at_hand
from estate.core.console import EstateError, UsageError, confirm, report, say, step, wait_until
from estate.ops.capacity import refuse_too_large
from estate.ops.postgres_version import refuse_other_major
from estate.ops.starting import Starts, refuse_missing
from estate.ops.volumes import growing, refuse_sizes
from estate.pulumi.events import RISKY, STACK, due, events, events_of, only_replaced, preview_of, steps_of
from estate.pulumi.policies import policies
from estate.pulumi.recovery import check_cluster, clear_unfinished, release_lock
from estate.reconcile.additions import additions, leaving, take_out_additions
from estate.reconcile.deletion import Deletions, deleted_by
from estate.stack import releases
from estate.stack.diagnosis import explain
from estate.stack.model import (
    Stack,
    ask,
    forget_taken_over,
    generated,
    load,
    on,
    only_one,
    open_stack,
    outputs,
    refuse_missing_secrets,
    state_of,
    store_secret,
    with_change,
)
from estate.stack.objects import declared_in, objects_of
from estate.stack.target import embedded, target
from infra.settings.secrets import GENERATED_SECRETS, Step
from infra.stack_file import nearest

ANSWER_DEADLINE_S = 120
REPLACED = re.compile(r'unable to replace resource "(urn:pulumi:[^"]+)"')
"""Pattern of Pulumi's message about a protected resource."""
REASONS = re.compile(r"^(?:Diagnostics|Policies):$.*", re.MULTILINE | re.DOTALL)
"""Pattern of the sections that a preview prints below the list of resources."""
ONLY_NEW = "only a newly created stack has another"
IN_USE = {
    "tokenKey": "estate keys rotate",
    "databasePasswordA": "estate db-password rotate",
    "databasePasswordB": "estate db-password rotate",
    "authoritySeed": ONLY_NEW,
    "consulSeed": ONLY_NEW,
}
"""Secrets that cannot be replaced by an arbitrary value under running pods, and how each is replaced."""


@contextmanager
def opened(name: str) -> Generator[Stack]:
    """Lock a stack against other commands on this machine, and yield it."""
    settings = load(name)
    with only_one(name):
        release_lock(name)
        stack = open_stack(name, settings)
        check_cluster(stack)
        yield stack


def up(name: str, *, agreed: bool = False) -> None:
    """Bring the estate up, then print its URLs.

    Args:
        name: the name of the stack.
        agreed: whether it is agreed that data may be lost.
    """
    refuse_missing_secrets(name, load(name))  # an invalid stack is refused before anything is started
    if embedded():
        lifecycle.start()
    with opened(name) as stack:
        update(stack, agreed=agreed)
        show_urls(stack)


def update(stack: Stack, *, agreed: bool = False) -> None:
    """Update the cluster to the stack's program, unless it is up to date.

    Args:
        stack: the stack to update.
        agreed: whether it is agreed that data may be lost.
    """
    refuse_other_major(stack)
    if stack.target.embedded:
        with step("third-party images"):
            publish_missing(at_hand(), stack.settings.image_references())
    refuse_missing(stack)
    clear_unfinished(stack)
    there = objects_of(stack)
    take_out_additions(stack, there)  # first: with the key of a port edited, not even the preview succeeds
    expected = look_ahead(stack, agreed=agreed)
    for line in leaving(there):
        report(f"  {line}; once it is gone, make up makes it again")
    if due(expected):
        change(stack, expected)
    else:
        report("  everything is as the stack says")
    for volume in growing(stack):
        report(f"  {volume}")
    forget_taken_over(stack)
    release = releases.of(stack, outputs(stack)["images"])
    releases.keep(stack, releases.with_newest(releases.known(stack), release))


def look_ahead(stack: Stack, *, agreed: bool = False) -> list[dict[str, Any]]:
    """Preview the update, refuse it if it would fail, and return the events of the preview.

    Protected resources that the update would delete or replace are unprotected for it, after confirmation.

    Raises:
        EstateError: the update would fail midway, or was not confirmed; nothing was changed.
    """
    while True:
        with step("what is to be changed"):
            done, seen = events_of(stack, "preview", *policies(stack.settings.stage))
        printed = done.stdout + done.stderr
        refuse_removal(stack, seen)
        if not stack.settings.protected or not (lost := at_risk(protected(stack), seen, printed)):
            break
        let_go(stack, lost, agreed=agreed)
    refuse_sizes(stack, seen)
    refuse_too_large(stack, seen)
    if done.returncode != 0 and not only_replaced(seen):
        reasons = REASONS.search(printed)
        raise EstateError(
            f"the update of stack {stack.name} would fail, and nothing was changed:\n{(reasons[0] if reasons else printed).strip()}"
        )
    return seen


def refuse_removal(stack: Stack, seen: list[dict[str, Any]]) -> None:
    """Refuse an update that only deletes, and deletes everything: the program declares nothing, as after a slip in an import.

    Raises:
        EstateError: the update would do that; nothing was changed.
    """
    if {step["op"] for step in steps_of(seen) if step["type"] != STACK} == {"delete"}:
        raise EstateError(
            f"the program declares nothing, so this update would delete everything in stack {stack.name}, and nothing was changed: "
            f"look at __main__.py and infra/__main__.py; estate down --stack {stack.name} removes a stack"
        )


def change(stack: Stack, expected: list[dict[str, Any]]) -> None:
    """Run the update; if it fails, report the reasons that the pods give.

    Args:
        stack: the stack to update.
        expected: events of the preview.
    """
    held = policies(stack.settings.stage)
    starts, deletions = Starts(stack), Deletions(stack, deleted_by(expected))
    try:
        stack.pulumi_shown(
            "up", "--yes", "--skip-preview", "--suppress-outputs", *held, *on(stack),
            hopeless=lambda: starts.hopeless() or deletions.hopeless(),
        )  # fmt: skip
    except EstateError:
        with suppress(EstateError):  # Pulumi's error is raised, whether or not the pods can be listed
            for line in explain(stack, json.loads(ask(stack, "get", "pods", "-o", "json"))["items"]):
                report(line)
        raise


def let_go(stack: Stack, lost: list[str], *, agreed: bool) -> None:
    """Unprotect the stateful resources that an update would delete or replace, after confirmation.

    Raises:
        EstateError: not confirmed; nothing was changed.
    """
    what = ", ".join(map(short, lost))
    confirm(
        f"This update would delete or replace what holds data in stack {stack.name}: {what}.",
        stack.name, f"estate up --stack {stack.name} --yes", agreed=agreed,
    )  # fmt: skip
    for urn in lost:
        stack.pulumi_shown("state", "unprotect", urn, "--yes", "--stack", stack.name)


def at_risk(kept: list[str], seen: list[dict[str, Any]], printed: str) -> list[str]:
    """Return the URNs of the protected resources that an update would delete or replace, as far as the preview gets.

    A preview ends at the replacement of a protected resource. A deletion of one Pulumi would refuse only midway through the update.
    """
    steps = steps_of(seen)
    going = {metadata["urn"] for metadata in steps if metadata["op"] in RISKY}
    return sorted(going.intersection(kept).union(REPLACED.findall(printed)))


def down(name: str, *, agreed: bool = False) -> None:
    """Remove everything in the stack, its generated secrets included; the cluster stays.

    Args:
        name: the name of the stack.
        agreed: whether it is agreed that its data is lost; if not, a user at a terminal is asked.

    Raises:
        EstateError: the stack has protected resources, and it is not agreed; nothing was removed.
    """
    load(name)  # an unknown stack is refused before the question
    if not agreed and sys.stdin.isatty():
        confirm(
            f"This removes stack {name} with all its data.", name, f"estate down --stack {name} --yes", agreed=False
        )
        agreed = True
    with opened(name) as stack:
        if kept := protected(stack):
            if not agreed:
                raise EstateError(
                    f"stack {name} is protected, and was left as it is ({', '.join(map(short, kept))}): "
                    f"estate down --stack {name} --yes removes it with all its data"
                )
            # Otherwise Pulumi would refuse to delete them one by one, after it has deleted everything else.
            stack.pulumi_shown("state", "unprotect", "--all", "--yes", "--stack", name)
        words = ["destroy", "--yes", "--skip-preview", "--refresh", *on(stack)]
        stack.pulumi_shown(*words, hopeless=Deletions(stack, declared_in(state_of(stack))).hopeless)


def protected(stack: Stack) -> list[str]:
    """Return the URNs of the stack's protected resources."""
    return [one["urn"] for one in state_of(stack).get("resources", ()) if one.get("protect")]


def short(urn: str) -> str:
    """Return a resource's kind and name."""
    path, _, name = urn.rpartition("::")
    return f"{path.rpartition(':')[2]} {name}"


def preview(name: str) -> None:
    """Show the changes that `up` would make, and last, where it is visible in a terminal, the risky ones."""
    with opened(name) as stack, tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "events"
        try:
            stack.pulumi_shown(
                "preview", "--diff", "--event-log", str(log), *policies(stack.settings.stage), *on(stack)
            )
            for change in preview_of(events(log)).risky:
                say(f"{'May lose data' if change.loses_data else 'Note'}: {change}")
        finally:  # an addition may be the reason that Pulumi's preview fails
            for addition in additions(objects_of(stack)):
                say(f"Note: {addition} outside of an update that ended: make up takes it out")


def urls_of(name: str) -> dict[str, str]:
    """Return the URLs of a stack by their names."""
    return outputs(Stack(name, load(name), target()))["urls"]


def list_urls(name: str, *, as_json: bool) -> None:
    """Print the stack's URLs."""
    urls = urls_of(name)
    width = max(map(len, urls))
    lines = [f"{of:<{width}}  {address}" for of, address in sorted(urls.items())]
    say(json.dumps(urls, indent=2, sort_keys=True) if as_json else "\n".join(lines))


def show_url(name: str, of: str, *, as_json: bool) -> None:
    """Print one of the stack's URLs."""
    urls = urls_of(name)
    if of not in urls:
        raise UsageError(f"stack {name} has no URL of {of!r}: it has {', '.join(sorted(urls))}")
    say(json.dumps(urls[of]) if as_json else urls[of])


def give_secret(name: str, key: str) -> None:
    """Store a value for one of the stack's secrets, from a hidden prompt on a terminal, otherwise from standard input.

    A secret that was generated already is replaced at once, by an update.

    Raises:
        EstateError: there is no such secret, or no value, or the secret is in use.
    """
    settings = load(name)
    known = {*GENERATED_SECRETS, *settings.given_secrets}
    if key not in known:
        raise UsageError(f"there is no secret {key!r}: {nearest(key, known)}")
    value = getpass.getpass(f"{key} of stack {name}: ") if sys.stdin.isatty() else sys.stdin.readline().rstrip("\n")
    if not value:
        raise EstateError(f"{key} was not given: type it, or give it by standard input; nothing was changed")
    with opened(name) as stack:
        replaces = key not in settings.given_secrets and key in generated(stack)
        if replaces and key in IN_USE:
            raise EstateError(f"{key} of stack {name} is in use, and was not replaced: {IN_USE[key]}")
        store_secret(stack, key, value)
        if replaces:
            update(with_change(stack, Step("take", key)))
            say(f"{key} is replaced")
            return
    say(f"{key} is stored: estate up --stack {name} brings it to where it is used")


def show_urls(stack: Stack) -> None:
    """Wait until the estate answers through the Ingress, and print the URLs and a command to paste."""
    found = outputs(stack)["urls"]
    gateway = httpx.URL(found["gateway"])
    resolve = trust = ""
    if stack.target.embedded:
        with step("first answer through the Ingress"):
            wait_until(lambda: answers_through_ingress(gateway), f"an answer of {gateway}/health", ANSWER_DEADLINE_S)
        resolve, trust = f" --resolve {gateway.host}:{gateway.port}:127.0.0.1", f" --cacert {layout.CA_CERTIFICATE}"
    say(f"\nEstate {stack.name} is up:")
    width = max(map(len, found))
    for of, address in sorted(found.items()):
        say(f"  {of:<{width}}  {address}")
    if resolve:
        hosts = " ".join(sorted({httpx.URL(address).host for address in found.values()}))
        say(f"For a browser, add to /etc/hosts: 127.0.0.1 {hosts}")
    say("Try it:")
    say(f'  curl{trust}{resolve} -H "Authorization: Bearer $(estate token --stack {stack.name})" \\')
    say('    -H \'Content-Type: application/json\' -d \'{"name": "Ada", "email": "ada@example.com", "age": 36}\' \\')
    say(f"    {gateway}/api/v1/users")


def answers_through_ingress(gateway: httpx.URL) -> bool:
    """Return whether the gateway's /health answers 200 to its public host name on this machine's loopback."""
    request: dict[str, Any] = {"headers": {"Host": gateway.host}, "extensions": {"sni_hostname": gateway.host}}
    address = gateway.copy_with(host="127.0.0.1", path="/health")
    try:
        with httpx.Client(verify=ssl.create_default_context(cafile=str(layout.CA_CERTIFICATE)), timeout=5) as client:
            return client.get(address, **request).status_code == 200
    except httpx.HTTPError:
        return False
