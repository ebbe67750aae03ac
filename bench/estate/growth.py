"""Growth of an estate of N services: duration of its program, its preview and its updates by N.

Updates write manifests instead of starting hundreds of pods on this machine; previews query the cluster, and change nothing there.
"""

import statistics
import tempfile
from collections.abc import Mapping
from pathlib import Path

import yaml

from bench.estate.commands import timed
from bench.estate.program import mocked
from estate.core.console import say
from estate.core.paths import PROJECT
from estate.pulumi.render import rendering_environment
from estate.stack.model import read_yaml
from estate.stack.target import Target

PROGRAM = PROJECT / "bench" / "estate" / "synthetic"
SIZES, ROUNDS = (10, 25, 50), 3
WHAT = (
    "against mocks",
    "preview of all as new, on the cluster",
    "up of all, rendered",
    "up, nothing to change, rendered",
)


def measure(target: Target) -> str:
    """Measure all sizes in rounds, and return a Markdown table."""
    took_s: dict[tuple[str, int], list[float]] = {}
    for number in range(ROUNDS):
        say(f"  growth: round {number + 1} of {ROUNDS}")
        for size in SIZES:
            for what, seconds in one_round(size, target).items():
                took_s.setdefault((what, size), []).append(seconds)
    medians = {key: statistics.median(of) for key, of in took_s.items()}
    lines = [f"| services | {' | '.join(f'{what} | per service added' for what in WHAT)} |", "|---" * 9 + "|"]
    for before, size in zip((None, *SIZES), SIZES, strict=False):
        cells: list[str] = []
        for what in WHAT:
            added = (medians[what, size] - medians[what, before]) / (size - before) if before else None
            cells += [f"{medians[what, size]:.1f} s", "" if added is None else f"{added * 1000:.0f} ms"]
        lines.append(f"| {size} | {' | '.join(cells)} |")
    return "\n".join(lines)


def one_round(size: int, target: Target) -> dict[str, float]:
    """Return the seconds that each operation takes with `size` services."""
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(temporary)
        rendering = rendering_environment(home, home / "manifests")
        config = home / "Pulumi.bench.yaml"
        (home / "Pulumi.yaml").write_text("name: synthetic\nruntime: python\n")
        timed([*pulumi("stack", "init", "bench"), "--secrets-provider", "passphrase"], rendering, home)
        disabled = {"pulumi:disable-default-providers": ["kubernetes"], "synthetic:services": size}
        config.write_text(yaml.safe_dump(read_yaml(config) | {"config": disabled}))
        state = {key: rendering[key] for key in ("PULUMI_BACKEND_URL", "PULUMI_CONFIG_PASSPHRASE")}
        on = ("--stack", "bench", "--config-file", str(config))
        update = pulumi("up", "--yes", "--skip-preview", *on)

        def seconds(command: list[str], environment: Mapping[str, str]) -> float:
            return timed(command, environment, PROGRAM).took_s

        return {
            WHAT[0]: mocked(size).took_s,
            WHAT[1]: seconds(pulumi("preview", *on), target.environment | state),
            WHAT[2]: seconds(update, rendering),
            WHAT[3]: seconds([*update, "--expect-no-changes"], rendering),
        }


def pulumi(*words: str) -> list[str]:
    """Return a Pulumi command line."""
    return ["pulumi", "--non-interactive", *words]
