"""Parser of Pulumi's event log of a preview or a refresh.

`preview --json` does not report policies. Secrets are masked in the log, and the values of a Secret are never shown.
"""

import json
import re
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

from estate.core.markdown import code
from estate.stack.model import Stack, on

STATEFUL = {"Cluster", "Namespace", "PersistentVolume", "PersistentVolumeClaim", "Secret", "StatefulSet"}
"""Kinds that hold data that cannot be recreated, or whose deletion deletes such data."""
RISKY = ("delete", "replace")
PASSED_OVER = {"same", "read", "refresh", "create-replacement", "delete-replaced"}
"""Operations that change nothing, or are part of a replacement."""
COMPONENTS = ("estate:", "pulumi:pulumi:", "pulumi:providers:pulumi-python")
"""Type prefixes of resources that only group others, and of the provider of generated secrets, which receives every setting but uses none."""
KEPT_BY = ("parent", "protect", "retainOnDelete")
"""Options of a resource that may change on their own; Pulumi does not report that as a change."""
LOOKED_AT = ("read", "refresh")
STACK = "pulumi:pulumi:Stack"
FAILED = "preview failed\n"
"""Last message of Pulumi in every failed preview."""
CLAIM = "kubernetes:core/v1:PersistentVolumeClaim"
SHOWN = 60
"""Maximum characters of a value."""
PROPERTIES = 20
"""Maximum number of properties of a resource."""
UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
"""Pulumi's placeholder for a value that is only known after an update."""
SECRET = "4dabf18193072939515e22adb298388d"  # noqa: S105 - the key with which Pulumi marks a value as a secret
STEP = re.compile(r'\["((?:[^"\\]|\\.)*)"\]|\[(\d+)\]|([^.\[\]]+)')
"""Pattern of one step of a property path: ["key"], [0] or key."""


@dataclass(frozen=True)
class Change:
    """Change of a resource."""

    op: str
    kind: str
    name: str
    """Kind and name, as Markdown."""
    properties: tuple[str, ...]
    """Changed properties: path, old value and new value of each."""

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
    """Result of a preview: the changes, the findings of policies, and the errors."""

    changes: list[Change]
    refused: list[str]
    """Violations of mandatory policies."""
    advised: list[str]
    errors: list[str]

    @property
    def risky(self) -> list[Change]:
        """Return the deletions and replacements, those that lose data first."""
        return sorted((change for change in self.changes if change.risky), key=lambda change: not change.loses_data)


def events_of(stack: Stack, *words: str) -> tuple[CompletedProcess[str], list[dict[str, Any]]]:
    """Run pulumi on a stack; return the completed process, and the events in its log."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "events"
        done = stack.pulumi(*words, "--event-log", str(log), *on(stack))
        return done, events(log)


def events(log: Path) -> list[dict[str, Any]]:
    """Return the events in a log of Pulumi; an empty list if no log was written."""
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def preview_of(told_events: Iterable[dict[str, Any]]) -> Preview:
    """Return the preview that events describe."""
    preview = Preview([], [], [], [])
    for event in told_events:
        if step := event.get("resourcePreEvent"):
            metadata = step["metadata"]
            if metadata["op"] not in PASSED_OVER and not metadata["type"].startswith(COMPONENTS):
                preview.changes.append(change(metadata))
        elif policy := event.get("policyEvent"):
            broken = preview.refused if policy["enforcementLevel"] == "mandatory" else preview.advised
            broken.append(f"{policy['policyName']} of {named(policy['resourceUrn'])}: {last_line(policy['message'])}")
        elif (said := event.get("diagnosticEvent")) and said["severity"] == "error":
            preview.errors.append(last_line(said["message"]))
    return preview


def due(told_events: Iterable[dict[str, Any]]) -> bool:
    """Return whether an update would change anything: a resource, its options in KEPT_BY, or the stack's outputs."""
    return any(differs(event) for event in told_events)


def differs(event: dict[str, Any]) -> bool:
    """Return whether an event of a preview describes a change."""
    seen = event.get("resourcePreEvent") or event.get("resOutputsEvent")
    if not seen or seen["metadata"]["op"] in LOOKED_AT:
        return False
    metadata: dict[str, Any] = seen["metadata"]
    old: dict[str, Any] = metadata.get("old") or {}
    new: dict[str, Any] = metadata.get("new") or {}
    if "resOutputsEvent" in event:  # outputs of other resources are known only after an update
        return metadata["type"] == STACK and old.get("outputs") != new.get("outputs")
    return metadata["op"] != "same" or any(old.get(key) != new.get(key) for key in KEPT_BY)


def steps_of(told_events: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the metadata of each step that an update would take, from the events of its preview."""
    return [event["resourcePreEvent"]["metadata"] for event in told_events if "resourcePreEvent" in event]


def only_replaced(told_events: Sequence[dict[str, Any]]) -> bool:
    """Return whether a preview failed only for replaced resources: it asks the API server to change in place what an update deletes first.

    An update does not delete a PersistentVolumeClaim first.
    """
    steps = steps_of(told_events)
    replaced = {step["urn"] for step in steps if step["op"] == "replace" and step["type"] != CLAIM}
    said = [event["diagnosticEvent"] for event in told_events if "diagnosticEvent" in event]
    of = {one.get("urn", "") for one in said if one["severity"] == "error" and one["message"] != FAILED}
    refused = any(event.get("policyEvent", {}).get("enforcementLevel") == "mandatory" for event in told_events)
    return bool(of) and of <= replaced and not refused


def named(urn: str) -> str:
    """Return a resource's kind and name, as Markdown."""
    path, _, name = urn.rpartition("::")
    return f"{path.rpartition(':')[2]} {code(name)}"


def last_line(message: str) -> str:
    """Return the last line of a message of Pulumi: the error is below the traceback, or below the policy's description."""
    return code((message.strip().splitlines() or [""])[-1])


def change(metadata: dict[str, Any]) -> Change:
    """Return the change in an event's metadata."""
    kind = metadata["type"].rpartition(":")[2]
    paths = list(metadata.get("detailedDiff") or metadata.get("diffs") or ()) if metadata["op"] != "delete" else []
    old, new = (inputs(metadata, state) for state in ("old", "new"))
    properties = [path if kind == "Secret" else differing(path, at(old, path), at(new, path)) for path in paths]
    return Change(metadata["op"], kind, named(metadata["urn"]), tuple(map(code, properties[:PROPERTIES])))


def inputs(metadata: dict[str, Any], state: str) -> dict[str, Any]:
    """Return the inputs of a resource in a state, `old` or `new`."""
    of_state: dict[str, Any] = metadata.get(state) or {}
    return of_state.get("inputs") or {}


def at(value: Any, path: str) -> Any:
    """Return the value at a path in a value; None if there is none."""
    for key, index, word in STEP.findall(path):
        try:
            value = value[int(index)] if index else value[key or word]
        except (KeyError, IndexError, TypeError):
            return None
    return value


def differing(path: str, old: Any, new: Any) -> str:
    """Return a property's path, with its old and new values if the program declares them."""
    return path if old is None and new is None else f"{path} {shown(old)} → {shown(new)}"


def shown(value: Any) -> str:
    """Return a value as text; a long one is cut in the middle, because an image's digest is at its end."""
    if value is None:
        return "(none)"
    if value == UNKNOWN:
        return "(known later)"
    if isinstance(value, dict) and SECRET in value:
        return "[secret]"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 12]}…{text[-12:]}"
