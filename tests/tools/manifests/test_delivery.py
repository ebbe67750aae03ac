"""Checks of the manifests in pull requests, and of the workflows by actionlint: both need built tools."""

import os
import shutil
import subprocess

from estate.core.paths import PROJECT
from estate.delivery.render_diff import FILE
from estate.stack.target import embedded
from estate.tools.build import toolbox
from tests.support.stacks import estate


def test_actionlint_finds_nothing() -> None:
    path = os.environ["PATH"] if not embedded() else toolbox().path
    actionlint = shutil.which("actionlint", path=path)
    assert actionlint, "actionlint is not there: estate tools build, or with ESTATE_TARGET=system put it on PATH"
    files = sorted((PROJECT / ".github" / "workflows").glob("*.yml"))
    judged = subprocess.run([actionlint, *files], capture_output=True, text=True, check=False)
    assert judged.returncode == 0, judged.stdout + judged.stderr


def worktrees() -> list[str]:
    """Return the folders of the worktrees that git knows; files checked out there belong to them."""
    words = ["git", "worktree", "list", "--porcelain"]
    listed = subprocess.run(words, cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if line.startswith("worktree ")]


def test_manifests_are_compared_with_those_of_another_revision_which_leaves_nothing_behind() -> None:
    before = worktrees()
    made = estate("diff", "--base", "HEAD", stack="dev")
    assert made.returncode == 0, made.stdout + made.stderr
    comment = FILE.read_text()
    assert comment.startswith("<!-- estate: rendered manifests -->\n\n### Manifests, since HEAD\n")
    assert "Unchanged: dev" in comment or "<summary>Stack dev: +" in comment
    assert worktrees() == before
