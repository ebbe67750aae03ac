"""`estate diff`: show how a change affects the manifests, without a cluster and without secrets: for pull requests from forks.

The base is rendered with its own program, in a git worktree with its own dependencies.
"""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

from estate.core.console import EstateError, UsageError
from estate.core.environment import uv
from estate.core.markdown import marked, write
from estate.core.paths import PROJECT
from estate.stack.model import stack_names

AUTONAMED = re.compile(r"^  name: \S+(-[0-9a-f]{8})$", re.MULTILINE)
FILE = PROJECT / "build" / "render-diff.md"


@contextmanager
def worktree(revision: str, folder: Path) -> Generator[None]:
    """Check out a revision of the project in a folder, and remove it at the end.

    Raises:
        EstateError: there is no such revision in this clone.
    """
    if revision.startswith("-"):  # git would take it for an option
        raise UsageError(f"--base {revision} is no revision: it names a branch, a tag or a commit, such as origin/main")
    try:
        git("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}")
    except EstateError as error:
        raise UsageError(
            f"--base {revision} is no commit of this clone: git fetch brings what the remote has"
        ) from error
    git("worktree", "add", "--detach", str(folder), revision)
    try:
        yield
    finally:
        git("worktree", "remove", "--force", str(folder))


def git(*words: str) -> str:
    """Run git in the project.

    Raises:
        EstateError: it failed; with its error output.
    """
    done = subprocess.run(("git", *words), cwd=PROJECT, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode != 0:
        raise EstateError(f"git {words[0]}: {done.stderr.strip()}")
    return done.stdout


def rendered(project: Path, stack: str, to: Path) -> None:
    """Render a stack with `estate render` of a project, and move the manifests to a folder; none if the project has no such stack.

    Raises:
        EstateError: rendering failed; with its output.
    """
    to.mkdir(parents=True)
    if not (project / "stacks" / f"Pulumi.{stack}.yaml").exists():
        return
    environment = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    command = [str(uv()), "run", "--quiet", "--frozen", "python", "-m", "estate", "render", "--stack", stack]
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise EstateError(f"estate render --stack {stack} in {project} failed:\n{done.stdout}{done.stderr.strip()}")
    to.rmdir()
    shutil.move(project / "build" / "manifests" / stack, to)
    without_random_names(to)


def without_random_names(folder: Path) -> None:
    """Remove Pulumi's random suffixes from manifests and their file names: they differ in every rendering."""
    files = sorted(folder.rglob("*.yaml"))
    named = [text for text in (file.read_text() for file in files) if "pulumi.com/autonamed" in text]
    random = sorted({found for text in named for found in AUTONAMED.findall(text)})
    for file in files:
        text, name = file.read_text(), file.name
        for suffix in random:
            text, name = text.replace(suffix, ""), name.replace(suffix, "")
        file.write_text(text)
        file.rename(file.with_name(name))


def difference(before: Path, after: Path) -> str:
    """Return the unified diff of two sibling folders, with paths that begin with the folders' names."""
    words = [
        "git",
        "diff",
        "--no-index",
        "--no-color",
        "--no-ext-diff",
        "--no-prefix",
        "--no-renames",
        before.name,
        after.name,
    ]
    done = subprocess.run(words, cwd=before.parent, capture_output=True, text=True, check=False)
    if done.returncode > 1:
        raise EstateError(f"git diff: {done.stderr.strip()}")
    lines = done.stdout.splitlines()
    return "\n".join(
        line for line in lines if not line.startswith(("diff --git ", "index ", "new file", "deleted file"))
    )


def markdown(differences: dict[str, str], base: str, failures: Mapping[str, str] = MappingProxyType({})) -> str:
    """Return the comment: unchanged stacks on one line, then the failures, then the collapsed diffs of the other stacks.

    Args:
        differences: the unified diff of each rendered stack.
        base: the revision to compare with.
        failures: the error of each stack that could not be rendered.
    """
    failed = [f"Stack {stack} cannot be rendered:\n\n{fenced(words)}" for stack, words in failures.items()]
    same = [stack for stack, diff in differences.items() if not diff]
    changed = [
        f"<details><summary>Stack {stack}: +{count(diff, '+')} -{count(diff, '-')} lines</summary>\n\n{fenced(diff)}\n\n</details>"
        for stack, diff in differences.items()
        if diff
    ]
    title = f"### Manifests, since {base}"
    return marked("rendered manifests", title, f"Unchanged: {', '.join(same)}" if same else "", *failed, *changed)


def fenced(diff: str) -> str:
    """Return a diff as a code block, with a longer fence than any in the diff."""
    return f"`````diff\n{diff.replace('`````', '````')}\n`````"


def count(diff: str, sign: str) -> int:
    """Return the number of added or removed lines."""
    return sum(line.startswith(sign) and not line.startswith(sign * 3) for line in diff.splitlines())


def compare(base: str, wanted: str) -> None:
    """Write the differences of manifests from another revision's into build/render-diff.md, and print them.

    Args:
        base: the revision to compare with.
        wanted: the name of a stack, or `all`.

    Raises:
        EstateError: there is no such stack, or one cannot be rendered.
    """
    known = stack_names()
    if wanted not in ("all", *known):
        raise UsageError(f"there is no stack {wanted!r}: the stacks are {', '.join(known)}; or leave --stack out")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        differences: dict[str, str] = {}
        failures: dict[str, str] = {}
        with worktree(base, folder / "base"):
            for stack in known if wanted == "all" else [wanted]:
                before, after = folder / f"{stack}-before", folder / stack
                try:
                    rendered(folder / "base", stack, before)
                    rendered(PROJECT, stack, after)
                except EstateError as error:  # the other stacks are still compared
                    failures[stack] = str(error)
                else:
                    differences[stack] = difference(before, after)
    write(FILE, markdown(differences, base, failures))
    if failures:
        raise EstateError("\n".join(failures.values()))
