"""Duration of a preview and an update of a stack that is up, against kubectl, and by their parallelism."""

import statistics
import tempfile
from collections.abc import Mapping
from pathlib import Path

from bench.estate.commands import Run, timed
from estate.core.console import EstateError, say
from estate.core.paths import PROJECT
from estate.pulumi.policies import policies
from estate.pulumi.render import render
from estate.stack.model import Stack, on

ROUNDS, UPDATES = 5, 3
AT_ONCE = (4, 8, 16, 32)
PREVIEW = ("preview",)
UPDATE = ("up", "--yes", "--skip-preview", "--suppress-outputs")
SMALLEST = {
    "Pulumi.yaml": f"name: smallest\nruntime: {{name: python, options: {{toolchain: uv, virtualenv: {PROJECT / '.venv'}}}}}\n",
    "__main__.py": "from pulumi_kubernetes.core.v1 import ConfigMap\nConfigMap('only')\n",
}
"""A project of one resource, in the estate's own environment: no preview of a Python program on Kubernetes takes less."""


def pulumi(stack: Stack, words: tuple[str, ...], *options: str) -> Run:
    """Run Pulumi as make runs it, on a stack that is up.

    Raises:
        EstateError: it failed, or there is something to change.
    """
    held = policies(stack.settings.stage)
    command = ["pulumi", "--non-interactive", *words, "--expect-no-changes", *options, *held, *on(stack)]
    return timed(command, stack.target.environment, PROJECT)


def measure(stack: Stack) -> str:
    """Measure previews and kubectl in turn, then updates with nothing to change; return the tables.

    Raises:
        EstateError: the stack differs from this clone's program.
    """
    try:
        pulumi(stack, PREVIEW)
    except EstateError as error:
        raise EstateError(f"estate up --stack {stack.name} first, from this clone: {error}") from error
    previews: list[Run] = []
    applies: list[Run] = []
    smallests: list[Run] = []
    with tempfile.TemporaryDirectory() as manifests, tempfile.TemporaryDirectory() as smallest:
        environment = make_smallest(Path(smallest), stack)
        render(stack.name, Path(manifests))
        words = ("apply", "--server-side", "--force-conflicts", "--dry-run=server", "--recursive", "-f", manifests)
        for number in range(ROUNDS):
            say(f"  preview and kubectl: round {number + 1} of {ROUNDS}")
            previews.append(pulumi(stack, PREVIEW))
            applies.append(timed(stack.kubectl(*words), stack.target.environment, PROJECT))
            smallests.append(timed(["pulumi", "--non-interactive", *PREVIEW], environment, Path(smallest)))
    updates = [pulumi(stack, UPDATE) for _ in range(UPDATES)]
    return "\n\n".join((times(previews, applies, smallests, updates), memory(previews), parallel(stack)))


def make_smallest(folder: Path, stack: Stack) -> Mapping[str, str]:
    """Create a project of one resource with a stack, and return the environment to preview it in."""
    environment = {
        **stack.target.environment,
        "PULUMI_BACKEND_URL": folder.as_uri(),
        "PULUMI_CONFIG_PASSPHRASE": "nothing secret",
    }
    for name, text in SMALLEST.items():
        (folder / name).write_text(text)
    timed(["pulumi", "--non-interactive", "stack", "init", "bench"], environment, folder)
    return environment


def times(previews: list[Run], applies: list[Run], smallests: list[Run], updates: list[Run]) -> str:
    """Return the duration of each command as a Markdown table; a ratio is the median of the rounds' ratios."""
    ratio, floor = (
        statistics.median(one.took_s / apply.took_s for one, apply in zip(runs, applies, strict=True))
        for runs in (previews, smallests)
    )
    rows = {
        "preview, nothing to change": previews,
        "kubectl apply --dry-run=server of the same": applies,
        "preview of a program of one ConfigMap": smallests,
        "up, nothing to change": updates,
    }
    lines = ["| what | median | slowest |", "|---|---|---|"]
    for what, runs in rows.items():
        took_s = [run.took_s for run in runs]
        lines.append(f"| {what} | {statistics.median(took_s):.1f} s | {max(took_s):.1f} s |")
    ratios = [
        f"| preview to kubectl | {ratio:.1f} | |",
        f"| preview of a program of one ConfigMap to kubectl | {floor:.1f} | |",
    ]
    return "\n".join([*lines, *ratios])


def memory(previews: list[Run]) -> str:
    """Return the peak memory of each part of a preview as a Markdown table."""
    parts = {part for run in previews for part in run.peaks_mb if part != "others"}
    peaks = {part: max(run.peaks_mb.get(part, 0) for run in previews) for part in parts}
    lines = ["| part of a preview | most memory resident |", "|---|---|"]
    lines += [f"| {part} | {peak:.0f} MB |" for part, peak in sorted(peaks.items(), key=lambda of: -of[1])]
    return "\n".join([*lines, f"| together | {sum(peaks.values()):.0f} MB |"])


def parallel(stack: Stack) -> str:
    """Measure previews and updates at each parallelism in turn, and return a Markdown table."""
    took_s: dict[tuple[str, int], list[float]] = {}
    for number in range(UPDATES):
        say(f"  parallel: round {number + 1} of {UPDATES}")
        for at_once in AT_ONCE:
            for words in (PREVIEW, UPDATE):
                run = pulumi(stack, words, f"--parallel={at_once}")
                took_s.setdefault((words[0], at_once), []).append(run.took_s)
    lines = ["| --parallel | preview | up, nothing to change |", "|---|---|---|"]
    for at_once in AT_ONCE:
        preview_s, up_s = (statistics.median(took_s[words[0], at_once]) for words in (PREVIEW, UPDATE))
        lines.append(f"| {at_once} | {preview_s:.1f} s | {up_s:.1f} s |")
    return "\n".join(lines)
