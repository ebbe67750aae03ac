"""What Pulumi's event log says of a preview or a refresh.

`preview --json` says nothing of policies. Secrets are masked in the log, and values of a Secret are not told at all.
"""

import json
import re
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

from toolchain.markdown import code
from toolchain.stack import Stack, on

STATEFUL = {"Cluster", "Namespace", "PersistentVolume", "PersistentVolumeClaim", "Secret", "StatefulSet"}
"""Kinds that hold, or decide over, what cannot be made again."""
RISKY = ("delete", "replace")
PASSED_OVER = {"same", "read", "refresh", "create-replacement", "delete-replaced"}
"""Operations that change nothing, or are part of another: a replacement."""
COMPONENTS = ("estate:", "pulumi:pulumi:", "pulumi:providers:pulumi-python")
"""Types of what only groups resources, and of the provider of generated secrets, which is given every setting and needs none."""
KEPT_BY = ("parent", "protect", "retainOnDelete")
"""How a resource is kept, which may change alone; Pulumi calls that no change."""
LOOKED_AT = ("read", "refresh")
STACK = "pulumi:pulumi:Stack"
FAILED = "preview failed\n"
"""What Pulumi says in the end of every preview that failed."""
CLAIM = "kubernetes:core/v1:PersistentVolumeClaim"
SHOWN = 60
"""Characters of a value."""
PROPERTIES = 20
"""Of a resource, at the most."""
UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
"""What Pulumi has in the place of what only an update tells."""
SECRET = "4dabf18193072939515e22adb298388d"  # noqa: S105 - the key by which Pulumi marks a value as a secret
STEP = re.compile(r'\["((?:[^"\\]|\\.)*)"\]|\[(\d+)\]|([^.\[\]]+)')
"""One of a property's path: ["key"], [0] or key."""


@dataclass(frozen=True)
class Change:
    """What would become of a resource."""

    op: str
    kind: str
    name: str
    """With its kind, as Markdown."""
    properties: tuple[str, ...]
    """Path, old value and new one."""

    @property
    def risky(self) -> bool:
        return self.op in RISKY

    @property
    def loses_data(self) -> bool:
        return self.risky and self.kind in STATEFUL

    def __str__(self) -> str:
        what = f": {', '.join(self.properties)}" if self.properties else ""
        return f"**{self.op}** {self.name}{what}"


@dataclass(frozen=True)
class Preview:
    """What Pulumi would do, and why it may not."""

    changes: list[Change]
    refused: list[str]
    """Mandatory policies that are not kept."""
    advised: list[str]
    errors: list[str]

    @property
    def risky(self) -> list[Change]:
        """Deletions and replacements, those of what holds data first."""
        return sorted((change for change in self.changes if change.risky), key=lambda change: not change.loses_data)


def events_of(stack: Stack, *words: str) -> tuple[CompletedProcess[str], list[dict[str, Any]]]:
    """Run pulumi on a stack; what it printed, and the events it told."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "events"
        done = stack.pulumi(*words, "--event-log", str(log), *on(stack))
        return done, events(log)


def events(log: Path) -> list[dict[str, Any]]:
    """What an event log of Pulumi's holds; nothing where it did not come to write one."""
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def preview_of(told_events: Iterable[dict[str, Any]]) -> Preview:
    """The preview that events tell."""
    preview = Preview([], [], [], [])
    for event in told_events:
        if step := event.get("resourcePreEvent"):
            metadata = step["metadata"]
            if metadata["op"] not in PASSED_OVER and not metadata["type"].startswith(COMPONENTS):
                preview.changes.append(change(metadata))
        elif policy := event.get("policyEvent"):
            told = preview.refused if policy["enforcementLevel"] == "mandatory" else preview.advised
            told.append(f"{policy['policyName']} of {named(policy['resourceUrn'])}: {last_line(policy['message'])}")
        elif (said := event.get("diagnosticEvent")) and said["severity"] == "error":
            preview.errors.append(last_line(said["message"]))
    return preview


def due(told_events: Iterable[dict[str, Any]]) -> bool:
    """Whether an update would change anything: a resource, how one is kept, or the stack's outputs."""
    return any(differs(event) for event in told_events)


def differs(event: dict[str, Any]) -> bool:
    """Whether an event of a preview tells a change."""
    told = event.get("resourcePreEvent") or event.get("resOutputsEvent")
    if not told or told["metadata"]["op"] in LOOKED_AT:
        return False
    metadata: dict[str, Any] = told["metadata"]
    old: dict[str, Any] = metadata.get("old") or {}
    new: dict[str, Any] = metadata.get("new") or {}
    if "resOutputsEvent" in event:  # of other resources they are known after an update alone
        return metadata["type"] == STACK and old.get("outputs") != new.get("outputs")
    return metadata["op"] != "same" or any(old.get(key) != new.get(key) for key in KEPT_BY)


def only_replaced(told_events: Sequence[dict[str, Any]]) -> bool:
    """Whether a preview failed for nothing but what is replaced: the API server is asked to change in place what an update deletes first.

    A claim it does not delete.
    """
    steps = [event["resourcePreEvent"]["metadata"] for event in told_events if "resourcePreEvent" in event]
    replaced = {step["urn"] for step in steps if step["op"] == "replace" and step["type"] != CLAIM}
    said = [event["diagnosticEvent"] for event in told_events if "diagnosticEvent" in event]
    of = {one.get("urn", "") for one in said if one["severity"] == "error" and one["message"] != FAILED}
    refused = any(event.get("policyEvent", {}).get("enforcementLevel") == "mandatory" for event in told_events)
    return bool(of) and of <= replaced and not refused


def named(urn: str) -> str:
    """A resource's kind and name."""
    path, _, name = urn.rpartition("::")
    return f"{path.rpartition(':')[2]} {code(name)}"


def last_line(message: str) -> str:
    """Of what Pulumi says: what went wrong is below the traceback, or the policy's description."""
    return code((message.strip().splitlines() or [""])[-1])


def change(metadata: dict[str, Any]) -> Change:
    """What an event says of a resource."""
    kind = metadata["type"].rpartition(":")[2]
    paths = list(metadata.get("detailedDiff") or metadata.get("diffs") or ()) if metadata["op"] != "delete" else []
    old, new = (inputs(metadata, state) for state in ("old", "new"))
    properties = [path if kind == "Secret" else differing(path, at(old, path), at(new, path)) for path in paths]
    return Change(metadata["op"], kind, named(metadata["urn"]), tuple(map(code, properties[:PROPERTIES])))


def inputs(metadata: dict[str, Any], state: str) -> dict[str, Any]:
    """What the program gave a resource, or gives it now."""
    of_state: dict[str, Any] = metadata.get(state) or {}
    return of_state.get("inputs") or {}


def at(value: Any, path: str) -> Any:
    """The value at a path in another; None where there is none."""
    for key, index, word in STEP.findall(path):
        try:
            value = value[int(index)] if index else value[key or word]
        except (KeyError, IndexError, TypeError):
            return None
    return value


def differing(path: str, old: Any, new: Any) -> str:
    """A property and what becomes of it, where the program says that."""
    return path if old is None and new is None else f"{path} {shown(old)} → {shown(new)}"


def shown(value: Any) -> str:
    """A value; its ends where it is long, for an image's digest is at its end."""
    if value is None:
        return "(none)"
    if value == UNKNOWN:
        return "(known later)"
    if isinstance(value, dict) and SECRET in value:
        return "[secret]"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 12]}…{text[-12:]}"
