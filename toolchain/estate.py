"""`make up`, `down`, `preview`, `url`, `token`, `operator-secret` and `secret`."""

import getpass
import json
import os
import re
import ssl
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import httpx
import jwt
from jwt.utils import base64url_decode

from infra.generated_secrets import Step
from infra.settings import GENERATED_SECRETS, nearest
from infra.token_keys import kid
from toolchain import releases
from toolchain.additions import additions, take_out_additions
from toolchain.cluster import __main__ as cluster
from toolchain.cluster import layout
from toolchain.cluster.tools import at_hand
from toolchain.console import ToolchainError, confirm, report, run_command, say, step, timed, wait_until
from toolchain.diagnosis import explain
from toolchain.events import RISKY, due, events, events_of, only_replaced, preview_of
from toolchain.policies import policies
from toolchain.recovery import check_cluster, clear_unfinished, release_lock
from toolchain.stack import (
    Stack,
    ask,
    forget_taken_over,
    generated,
    load,
    on,
    only_one,
    open_stack,
    outputs,
    secret,
    state_of,
    store_secret,
    with_change,
)
from toolchain.standins import publish_missing
from toolchain.target import target
from toolchain.volumes import growing, refuse_sizes

ANSWER_DEADLINE_S = 120
TOKEN_S = 24 * 3600
REPLACED = re.compile(r'unable to replace resource "(urn:pulumi:[^"]+)"')
"""What Pulumi says of a resource that is protected."""
REASONS = re.compile(r"^(?:Diagnostics|Policies):$.*", re.MULTILINE | re.DOTALL)
"""What a preview prints below the list of resources."""
ANEW = "only a stack that is made anew has another"
IN_USE = {
    "tokenKey": "make rotate-keys",
    "databasePasswordA": "make rotate-database-password",
    "databasePasswordB": "make rotate-database-password",
    "authoritySeed": ANEW,
    "consulSeed": ANEW,
}
"""Secrets that running pods could not go over from to just any other, and what replaces them."""


@contextmanager
def opened(name: str) -> Generator[Stack]:
    """A stack that nobody else on this machine works on."""
    settings = load(name)
    with only_one(name):
        release_lock(name)
        stack = open_stack(name, settings)
        check_cluster(stack)
        yield stack


def up(name: str) -> None:
    """Bring the estate up, then say where it answers."""
    load(name)  # a wrong stack is refused before anything is started
    if os.environ.get("TOOLS", "embedded") == "embedded":
        cluster.start()
    with opened(name) as stack:
        update(stack)
        show_urls(stack)


def update(stack: Stack) -> None:
    """Make the cluster what the stack says, unless it is so already."""
    if stack.target.embedded:
        with step("third-party images"):
            publish_missing(at_hand(), stack.settings.image_references())
    clear_unfinished(stack)
    expected = look_ahead(stack)
    take_out_additions(stack)
    if due(expected):
        change(stack)
    else:
        report("  everything is as the stack says")
    for volume in growing(stack):
        report(f"  {volume}")
    forget_taken_over(stack)
    release = releases.of(stack, outputs(stack)["images"])
    releases.keep(stack, releases.with_newest(releases.known(stack), release))


def look_ahead(stack: Stack) -> list[dict[str, Any]]:
    """Return the events of a preview that nothing speaks against.

    What an update would delete, or replace, although it holds data, is unprotected for it, once somebody agrees.

    Raises:
        ToolchainError: the update would be refused in its middle, or nobody agrees; nothing was changed.
    """
    while True:
        with step("what is to be changed"):
            done, told = events_of(stack, "preview", *policies(stack.settings.stage))
        printed = done.stdout + done.stderr
        if not stack.settings.protected or not (lost := at_risk(protected(stack), told, printed)):
            break
        let_go(stack, lost)
    refuse_sizes(stack, told)
    if done.returncode != 0 and not only_replaced(told):
        reasons = REASONS.search(printed)
        raise ToolchainError(
            f"the update of stack {stack.name} would fail, and nothing was changed:\n{(reasons[0] if reasons else printed).strip()}"
        )
    return told


def change(stack: Stack) -> None:
    """Run the update, and where it fails, say what the pods know of the reason."""
    held = policies(stack.settings.stage)
    try:
        stack.pulumi_shown("up", "--yes", "--skip-preview", "--suppress-outputs", *held, *on(stack))
    except ToolchainError:
        with suppress(ToolchainError):  # the reason is Pulumi's, whether or not the pods can be asked
            for line in explain(stack, json.loads(ask(stack, "get", "pods", "-o", "json"))["items"]):
                report(line)
        raise


def let_go(stack: Stack, lost: list[str]) -> None:
    """Unprotect what an update would delete, or replace, although it holds data; once somebody agrees.

    Raises:
        ToolchainError: nobody does; nothing was changed.
    """
    what = ", ".join(map(short, lost))
    confirm(
        f"This update would delete or replace what holds data in stack {stack.name}: {what}.",
        stack.name, f"make up STACK={stack.name} FORCE=1",
    )  # fmt: skip
    for urn in lost:
        stack.pulumi_shown("state", "unprotect", urn, "--yes", "--stack", stack.name)


def at_risk(kept: list[str], told: list[dict[str, Any]], printed: str) -> list[str]:
    """Return URNs of what is protected and would not stay as it is, as far as a preview comes: it ends at a replacement.

    Of a deletion Pulumi would say so only in the middle of the update.
    """
    steps = [event["resourcePreEvent"]["metadata"] for event in told if "resourcePreEvent" in event]
    going = {metadata["urn"] for metadata in steps if metadata["op"] in RISKY}
    return sorted(going.intersection(kept).union(REPLACED.findall(printed)))


def down(name: str) -> None:
    """Remove everything of the stack, its generated secrets included; the cluster stays.

    Raises:
        ToolchainError: it holds data that is protected, and FORCE is not set; nothing was removed.
    """
    with opened(name) as stack:
        if kept := protected(stack):
            if os.environ.get("FORCE") != "1":
                raise ToolchainError(
                    f"stack {name} is protected, and was left as it is ({', '.join(map(short, kept))}): "
                    f"make down STACK={name} FORCE=1 removes it with all its data"
                )
            # One by one Pulumi would refuse them, after it has deleted everything else.
            stack.pulumi_shown("state", "unprotect", "--all", "--yes", "--stack", name)
        stack.pulumi_shown("destroy", "--yes", "--skip-preview", "--refresh", *on(stack))


def protected(stack: Stack) -> list[str]:
    """URNs of what Pulumi refuses to delete or replace."""
    return [one["urn"] for one in state_of(stack).get("resources", ()) if one.get("protect")]


def short(urn: str) -> str:
    """A resource's kind and name."""
    path, _, name = urn.rpartition("::")
    return f"{path.rpartition(':')[2]} {name}"


def preview(name: str) -> None:
    """Show what up would do, and in the end, where a reader of a terminal is, what of it is risky."""
    with opened(name) as stack, tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "events"
        stack.pulumi_shown("preview", "--diff", "--event-log", str(log), *policies(stack.settings.stage), *on(stack))
        for change in preview_of(events(log)).risky:
            say(f"{'May lose data' if change.loses_data else 'Note'}: {change}")
        for addition in additions(stack):
            say(f"Note: {addition} by hand: make up takes it out")


def url(name: str, of: str) -> None:
    """Print one of the stack's URLs."""
    urls = outputs(Stack(name, load(name), target()))["urls"]
    if of not in urls:
        raise ToolchainError(f"stack {name} has no URL of {of!r}: it has {', '.join(sorted(urls))}")
    say(urls[of])


def token(name: str) -> None:
    """Print a token for trying things out, good for a day."""
    say(new_token(Stack(name, load(name), target())))


def operator_secret(name: str) -> None:
    """Print the secret by which the client operator gets tokens."""
    say(secret(Stack(name, load(name), target()), "operatorSecret"))


def give_secret(name: str, key: str) -> None:
    """Store one of the stack's secrets as it is given: on a terminal unseen, otherwise by standard input.

    One that was generated already is replaced by an update at once.

    Raises:
        ToolchainError: there is no such secret, or nothing was given, or it is in use.
    """
    settings = load(name)
    known = (*GENERATED_SECRETS, *settings.receiver_secrets)
    if key not in known:
        raise ToolchainError(f"there is no secret {key!r}: {nearest(key, known)}")
    value = getpass.getpass(f"{key} of stack {name}: ") if sys.stdin.isatty() else sys.stdin.readline().rstrip("\n")
    if not value:
        raise ToolchainError(f"{key} was not given: type it, or give it by standard input; nothing was changed")
    with opened(name) as stack:
        replaces = key not in settings.given_secrets and key in generated(stack)
        if replaces and key in IN_USE:
            raise ToolchainError(f"{key} of stack {name} is in use, and was not replaced: {IN_USE[key]}")
        store_secret(stack, key, value)
        if replaces:
            update(with_change(stack, Step("take", key)))
            say(f"{key} is replaced")
            return
    say(f"{key} is stored: make up STACK={name} brings it to where it is used")


def new_token(stack: Stack) -> str:
    """A token that the stack's services accept: signed by its key, as the gateway would."""
    ingress, now = stack.settings.ingress, int(time.time())
    claims = {
        "iss": ingress.url(ingress.host),
        "aud": "estate",
        "sub": "operator",
        "user_id": 0,
        "username": "operator",
        "iat": now,
        "exp": now + TOKEN_S,
    }
    key = secret(stack, "tokenKey")
    return jwt.encode(claims, base64url_decode(key), "HS256", {"kid": kid(key)})  # pyright: ignore[reportUnknownMemberType]


def show_urls(stack: Stack) -> None:
    """Print the URLs and a line to paste, once the estate answers through the Ingress."""
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
    say(f'  curl{trust}{resolve} -H "Authorization: Bearer $(make token STACK={stack.name})" \\')
    say('    -H \'Content-Type: application/json\' -d \'{"name": "Ada", "email": "ada@example.com", "age": 36}\' \\')
    say(f"    {gateway}/api/v1/users")


def answers_through_ingress(gateway: httpx.URL) -> bool:
    """Whether the gateway's health answers 200 by its public name on this machine's loopback."""
    request: dict[str, Any] = {"headers": {"Host": gateway.host}, "extensions": {"sni_hostname": gateway.host}}
    address = gateway.copy_with(host="127.0.0.1", path="/health")
    try:
        with httpx.Client(verify=ssl.create_default_context(cafile=str(layout.CA_CERTIFICATE)), timeout=5) as client:
            return client.get(address, **request).status_code == 200
    except httpx.HTTPError:
        return False


COMMANDS: dict[str, Callable[..., None]] = {
    "up": up,
    "down": down,
    "preview": preview,
    "url": url,
    "token": token,
    "operator-secret": operator_secret,
    "secret": give_secret,
}


def main() -> None:
    if len(sys.argv) < 3 or sys.argv[1] not in COMMANDS:
        raise ToolchainError(f"usage: python -m toolchain.estate {'|'.join(COMMANDS)} STACK [NAME]")
    with timed() if sys.argv[1] in ("up", "down") else nullcontext():
        COMMANDS[sys.argv[1]](*sys.argv[2:])


if __name__ == "__main__":
    run_command(main)
