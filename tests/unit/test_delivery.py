"""The workflows (tests/tools/manifests runs actionlint on them), and the scripts that they run, with a stub in place of GitHub's command."""

import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from estate.core.environment import uv
from estate.core.paths import PROJECT
from estate.scaffold import licences, packages
from infra.services import NAMES
from infra.settings.images import Images
from tests.support.stacks import estate

GITHUB = PROJECT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
GH = """#!/usr/bin/env bash
printf '%s\\n' "$*" >>"$0.calls"
case "$*" in *--paginate*|*"issue list"*) printf '%s' "$KNOWN" ;; esac
"""


def test_zizmor_finds_nothing() -> None:
    judged = subprocess.run(
        [Path(sys.executable).parent / "zizmor", "--offline", "--min-severity=medium", "--no-progress", str(GITHUB)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert judged.returncode == 0, judged.stdout + judged.stderr


@pytest.mark.parametrize(
    "file", [*WORKFLOWS, *GITHUB.glob("actions/*/action.yml")], ids=lambda file: file.parent.name + file.name
)
def test_every_action_is_pinned_by_commit(file: Path) -> None:
    used = re.findall(r"uses: (\S+)( # v\d\S*)?", file.read_text())
    assert all(name.startswith("./") or (re.fullmatch(r"\S+@[0-9a-f]{40}", name) and version) for name, version in used)


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.name)
def test_no_workflow_runs_a_forks_code_with_what_is_ours(file: Path) -> None:
    workflow: dict[Any, Any] = yaml.safe_load(file.read_text())
    triggers = workflow[True]  # YAML 1.1 reads `on` as true
    assert "pull_request_target" not in triggers
    assert workflow["permissions"] == {}
    for name, job in workflow["jobs"].items():
        if "pull_request" in triggers and (set(job["permissions"]) - {"contents"} or "secrets." in json.dumps(job)):
            assert "head.repo.full_name == github.repository" in job["if"], name


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.name)
def test_workflows_run_goals_that_there_are(file: Path) -> None:
    goals = set(re.findall(r"^([a-z-]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z-]+)", file.read_text())) <= goals


def run(script: str, folder: Path, known: str, *words: str) -> str:
    """Return the calls of GitHub's command by a script of ours."""
    gh = folder / "gh"
    gh.write_text(GH)
    gh.chmod(gh.stat().st_mode | stat.S_IXUSR)
    own = {"PATH": f"{folder}:{os.environ['PATH']}", "KNOWN": known, "GITHUB_REPOSITORY": "acme/estate"}
    subprocess.run([GITHUB / script, *words], env=os.environ | own, check=True)
    return Path(f"{gh}.calls").read_text()


@pytest.mark.parametrize(
    ("known", "asked"),
    [("", "POST repos/acme/estate/issues/12/comments"), ("34\n", "PATCH repos/acme/estate/issues/comments/34")],
)
def test_a_comment_is_made_once_and_then_edited_in_place(tmp_path: Path, known: str, asked: str) -> None:
    file = tmp_path / "comment.md"
    file.write_text("<!-- estate: preview of dev -->\n\nNew")
    assert f"--method {asked} --field body=@{file}" in run("comment", tmp_path, known, "12", str(file))


@pytest.mark.parametrize(
    ("known", "there", "asked"),
    [("", True, "issue create"), ("5", True, "issue edit 5"), ("5", False, "issue close 5"), ("", False, "issue list")],
)
def test_an_issue_is_opened_once_edited_and_closed(tmp_path: Path, known: str, asked: str, *, there: bool) -> None:
    file = tmp_path / "drift.md"
    if there:
        file.write_text("drift")
    assert run("issue", tmp_path, known, "Drift of dev", str(file)).splitlines()[-1].startswith(asked)


def test_renovate_finds_every_image_that_the_program_deploys() -> None:
    manager = json.loads((PROJECT / "renovate.json").read_text())["customManagers"][0]
    pattern = manager["matchStrings"][0].replace("(?<", "(?P<")
    found = {
        f"{m['depName']}:{m['currentValue']}"
        for m in re.finditer(pattern, (PROJECT / "infra/settings/images.py").read_text())
    }
    assert found == set(Images().model_dump(exclude_none=True).values())


def test_the_page_of_licences_is_that_of_the_lock_file() -> None:
    assert licences.PAGE.read_text() == licences.page(), "estate docs licences"


def test_the_page_has_what_any_python_of_the_images_installs() -> None:
    """Expect async-timeout, which Redis requires below Python 3.11.3, as on Debian 12."""
    lines = re.findall(r"^[\w.-]+==[^\\\n]+", licences.locked(str(uv())), re.MULTILINE)
    python = {"python_full_version": f"{licences.image_python()}.0", "python_version": licences.image_python()}
    target = python | {"platform_system": "Linux", "sys_platform": "linux", "implementation_name": "cpython"}
    found = [
        requirement
        for requirement in map(Requirement, lines)
        if not requirement.marker or requirement.marker.evaluate(target)
    ]
    listed = re.findall(r"^\| (?!Name|-)(\S+)", licences.PAGE.read_text(), re.MULTILINE)
    assert {canonicalize_name(name) for name in listed} == {canonicalize_name(one.name) for one in found}


def test_every_image_has_its_list_of_parts() -> None:
    packages.write_components()
    for name in NAMES:
        document = json.loads((PROJECT / "build" / "sbom" / f"{name}.json").read_text())
        assert document["bomFormat"] == "CycloneDX"
        assert {"uvloop", "prometheus-client"} <= {part["name"] for part in document["components"]}


def test_a_database_of_vulnerabilities_out_of_reach_is_no_clean_bill() -> None:
    away = {"HTTPS_PROXY": "http://127.0.0.1:9", "ALL_PROXY": "http://127.0.0.1:9"}
    audited = estate("audit", env=os.environ | away)
    assert audited.returncode != 0
    assert "error" in audited.stderr
