"""`estate logs`: follow the logs of an app, or find one request in the logs of all services."""

import json
import os
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast

from estate.core.console import EstateError, UsageError, say
from estate.stack.model import Stack, ask, load
from estate.stack.target import target
from infra.services import NAMES
from infra.stack_file import nearest

SINCE = "1h"
"""Period of the logs to search for a request."""
LABEL = "app.kubernetes.io/name"
IDS = ("request_id", "client_request_id", "trace_id")
HEADER = ("time", "level", "logger", "message", "service", "request_id", "method", "url")
"""Fields that are shown before all others, or are the same in all lines of a request."""


@dataclass(frozen=True)
class Line:
    """A line of a pod's log (docs/logs.md)."""

    pod: str
    fields: dict[str, Any]

    def __str__(self) -> str:
        """Return the line in human-readable form."""
        said = {name: printable(value) for name, value in self.fields.items()}
        words = [said["time"], f"{self.pod:<34}", f"{said['level']:<7}", said["message"]]
        words += [said[name] for name in ("method", "url") if name in said]
        words += [f"{name}={value}" for name, value in said.items() if name not in HEADER]
        return " ".join(words)


def printable(value: Any) -> str:
    """Return a value as text with escaped control characters: a client may have sent them, and a terminal would obey them (CWE-150)."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(value))


def follow(stack: Stack, app: str) -> None:
    """Follow the logs of every pod of an app, until Ctrl-C.

    Raises:
        EstateError: the stack runs no such app; names the closest match.
    """
    check_app(stack, app)
    words = ("--follow", "--tail=100", "--max-log-requests=20", f"--selector={LABEL}={app}")
    os.execvpe("kubectl", stack.kubectl("logs", "--prefix", *words), stack.target.environment)


def check_app(stack: Stack, app: str) -> None:
    """Refuse the name of an app without a pod in the stack: kubectl would print nothing, and succeed.

    Raises:
        EstateError: names the running apps, or the closest match.
    """
    pods = json.loads(ask(stack, "get", "pods", "-o", "json"))["items"]
    running = sorted({name for pod in pods if (name := pod["metadata"].get("labels", {}).get(LABEL))})
    if not running:
        raise EstateError(f"nothing runs in stack {stack.name}: `estate up --stack {stack.name}` brings it up")
    if app not in running:
        raise UsageError(f"there is no app {app} in stack {stack.name}: {nearest(app, running)}")


def find(stack: Stack, request: str) -> list[Line]:
    """Return the log lines of our services about a request in the last hour, by time.

    Args:
        stack: the stack of the services.
        request: the request's id, the client's own id for it, or its trace id.

    Raises:
        EstateError: the cluster does not answer, or there is no such line.
    """
    # Streamed, not held in memory: an hour of a busy service is a lot. --ignore-errors: a pod that is just starting has no log.
    words = ("--prefix", "--ignore-errors", "--tail=-1", f"--since={SINCE}")
    command = stack.kubectl("logs", *words, f"--selector={LABEL} in ({','.join(NAMES)})")
    with subprocess.Popen(
        command, env=stack.target.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace"
    ) as kubectl:  # fmt: skip
        assert kubectl.stdout  # noqa: S101 - stdout is PIPE
        assert kubectl.stderr  # noqa: S101
        found = of_request(kubectl.stdout, request)
        problem = kubectl.stderr.read().strip()
    if kubectl.returncode != 0:
        raise EstateError(f"the cluster does not answer (estate cluster start starts the embedded one): {problem}")
    if not found:
        raise EstateError(
            f"no line of request {request} in the last hour of {', '.join(NAMES)} in stack {stack.name}: "
            "its id is in the answer's header X-Request-ID; --stack looks in another stack"
        )
    return found


def of_request(lines: Iterable[str], request: str) -> list[Line]:
    """Return the lines about a request in kubectl's output of several pods, by time.

    Args:
        lines: the lines, each with the pod's name in front (`--prefix`).
        request: the request's id, the client's own id for it, or its trace id.
    """
    found: list[Line] = []
    quoted = json.dumps(request)
    for text in lines:
        if quoted not in text:  # a cheap test that excludes nearly all lines
            continue
        prefix, _, rest = text.partition("] ")
        try:
            fields = json.loads(rest)
        except ValueError:  # not written by our logger
            continue
        if isinstance(fields, dict):
            known = cast("dict[str, Any]", fields)
            if request in (known.get(name) for name in IDS):
                found.append(Line(prefix.split("/")[1], known))
    return sorted(found, key=lambda line: line.fields["time"])


def show_app(name: str, app: str) -> None:
    """Follow the logs of an app of a stack."""
    follow(Stack(name, load(name), target()), app)


def show_request(name: str, request: str) -> None:
    """Print the lines about a request in the logs of a stack.

    Raises:
        UsageError: the id is empty.
    """
    if not request:
        raise UsageError("--request is empty: give the id of a request, or leave the option out to follow an app")
    for line in find(Stack(name, load(name), target()), request):
        say(str(line))
