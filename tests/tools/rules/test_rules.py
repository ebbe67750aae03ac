"""Every alert fires when it should and not when it should not, by promtool; the cases are in cases.yaml."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from estate.core.paths import PROJECT
from estate.pulumi.program import run_program
from estate.stack.target import embedded
from estate.tools.build import toolbox
from infra.alerts import FILE, NONE, groups
from infra.prometheus import NAME
from infra.settings.load import load_stack

Case = dict[str, Any]
CASES: dict[str, list[Case]] = yaml.load((Path(__file__).parent / "cases.yaml").read_text(), yaml.BaseLoader)  # noqa: S506
"""Cases with text values only: a safe loader would read 0x20 as a number."""
SETTINGS = load_stack(PROJECT / "stacks" / "Pulumi.local.yaml")
RUNBOOKS_URL = "https://example.com/docs/runbooks"
GROUPS = groups({"user-service": SETTINGS.of("user-service").slo}, SETTINGS.postgres.backup.too_old_h, RUNBOOKS_URL)
ALERTS = sorted({rule["alert"] for group in GROUPS for rule in group["rules"] if "alert" in rule})


@pytest.fixture(scope="module", autouse=True)
def promtool_is_there() -> None:
    """Fail at once where promtool is missing: building it takes longer than a test may, and the build prints nothing within one."""
    assert toolbox().folder.exists() or not embedded(), "the tools are not built: estate tools build"
    assert tool("promtool"), "promtool is not there: estate tools build, or with ESTATE_TARGET=system put it on PATH"


def tool(name: str) -> str | None:
    return shutil.which(name, path=toolbox().path)


def promtool(*words: str, cwd: Path) -> str:
    """Return the output of promtool."""
    done = subprocess.run([str(tool("promtool")), *words], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def groups_of(alert: str) -> list[dict[str, Any]]:
    """Return the groups that an alert needs: its own, and those that compute its objective."""
    needed = [group for group in GROUPS if alert in [rule.get("alert") for rule in group["rules"]]]
    recorded = any("slo:" in rule["expr"] for group in needed for rule in group["rules"])
    return [group for group in GROUPS if group in needed or (recorded and "record" in group["rules"][0])]


def promtool_test(alert: str, case: Case) -> dict[str, Any]:
    """Return a case in promtool's form: the services for which the alert fires."""
    interval = case.get("interval", "15s")
    fires = [{"labels": f'{{service="{case["fires"]}"}}', "value": 1}] if "fires" in case else []
    firing = f'group by (service) (ALERTS{{alertname="{alert}",alertstate="firing"}})'
    return {
        "rule_files": [FILE],
        "evaluation_interval": interval,
        "tests": [
            {
                "name": case["case"],
                "interval": interval,
                "start_timestamp": case.get("start", "1970-01-01T00:00:00Z"),
                "input_series": [{"series": name, "values": values} for name, values in case["series"].items()],
                "promql_expr_test": [{"expr": firing, "eval_time": case["at"], "exp_samples": fires}],
            }
        ],
    }


def test_the_rules_are_ones_that_prometheus_takes(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(yaml.safe_dump({"groups": GROUPS}))
    promtool("check", "rules", "--lint=all", "--lint-fatal", FILE, cwd=tmp_path)


def test_every_alert_has_a_case_in_which_it_rings_and_one_in_which_it_does_not() -> None:
    assert sorted(CASES) == ALERTS
    for alert, cases in CASES.items():
        assert any("fires" in case for case in cases), f"{alert} never fires"
        assert alert in NONE or any("fires" not in case for case in cases), f"{alert} is never silent"


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_rings_when_it_should_and_only_then(alert: str, tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(yaml.safe_dump({"groups": groups_of(alert)}))
    names: list[str] = []
    for number, case in enumerate(CASES[alert]):
        names.append(f"{number}.yaml")
        (tmp_path / names[-1]).write_text(yaml.safe_dump(promtool_test(alert, case)))
    promtool("test", "rules", *names, cwd=tmp_path)


@pytest.mark.parametrize("stack", ["local", "staging"])
def test_prometheus_can_read_its_configuration(stack: str, tmp_path: Path) -> None:
    maps = [made for made in run_program(stack) if made.type.endswith(":ConfigMap") and made.name == NAME]
    for name, text in maps[0].inputs["data"].items():
        (tmp_path / name).write_text(text)
    promtool("check", "config", "--syntax-only", "prometheus.yml", cwd=tmp_path)
