"""`make render-diff`: what a change makes of the manifests, without a cluster and without a secret: for pull requests from forks.

The base is rendered by its own program, in a git worktree with its own dependencies.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from toolchain.console import ToolchainError, run_command
from toolchain.markdown import marked, write
from toolchain.paths import PROJECT
from toolchain.stack import STACKS

AUTONAMED = re.compile(r"^  name: \S+(-[0-9a-f]{8})$", re.MULTILINE)
FILE = PROJECT / "build" / "render-diff.md"


@contextmanager
def worktree(revision: str, folder: Path) -> Generator[None]:
    """A revision of the project in a folder, for the time.

    Raises:
        ToolchainError: there is no such revision here.
    """
    if revision.startswith("-"):  # an option to git
        raise ToolchainError(
            f"BASE={revision} is no revision: it names a branch, a tag or a commit, such as BASE=origin/main"
        )
    try:
        git("worktree", "add", "--detach", str(folder), revision)
    except ToolchainError as error:
        raise ToolchainError(f"{error}\nBASE={revision} is not here: git fetch brings it") from error
    try:
        yield
    finally:
        git("worktree", "remove", "--force", str(folder))


def git(*words: str) -> str:
    """Run git in the project.

    Raises:
        ToolchainError: it failed; with its words.
    """
    done = subprocess.run(("git", *words), cwd=PROJECT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ToolchainError(f"git {words[0]}: {done.stderr.strip()}")
    return done.stdout


def rendered(project: Path, stack: str, to: Path) -> None:
    """Bring the manifests of a stack, made by `make render` of a project, to a folder; none where it has no such stack.

    Raises:
        ToolchainError: it fails; with its words.
    """
    to.mkdir(parents=True)
    if not (project / "stacks" / f"Pulumi.{stack}.yaml").exists():
        return
    environment = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    command = ["make", "render", f"STACK={stack}"]
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ToolchainError(f"make render STACK={stack} in {project} failed:\n{done.stdout}{done.stderr.strip()}")
    to.rmdir()
    shutil.move(project / "build" / "manifests" / stack, to)
    without_random_names(to)


def without_random_names(folder: Path) -> None:
    """Take Pulumi's random suffixes out of manifests and their files' names: they differ in every rendering."""
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
    """The unified diff of two folders beside each other, with their manifests' own paths in it."""
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
        raise ToolchainError(f"git diff: {done.stderr.strip()}")
    lines = done.stdout.splitlines()
    return "\n".join(
        line for line in lines if not line.startswith(("diff --git ", "index ", "new file", "deleted file"))
    )


def markdown(differences: dict[str, str], base: str) -> str:
    """The comment: stacks without a change on one line, the others' diffs folded."""
    same = [stack for stack, diff in differences.items() if not diff]
    changed = [
        f"<details><summary>Stack {stack}: +{count(diff, '+')} -{count(diff, '-')} lines</summary>\n\n{fenced(diff)}\n\n</details>"
        for stack, diff in differences.items()
        if diff
    ]
    title = f"### Manifests, since {base}"
    return marked("rendered manifests", title, f"Unchanged: {', '.join(same)}" if same else "", *changed)


def fenced(diff: str) -> str:
    """A diff as a block; a longer fence than any in it."""
    return f"`````diff\n{diff.replace('`````', '````')}\n`````"


def count(diff: str, sign: str) -> int:
    """How many lines were added or removed."""
    return sum(line.startswith(sign) and not line.startswith(sign * 3) for line in diff.splitlines())


def main() -> None:
    if len(sys.argv) != 3:
        raise ToolchainError("usage: python -m toolchain.render_diff BASE STACK|all")
    base, wanted = sys.argv[1:]
    known = sorted(file.name.split(".")[1] for file in STACKS.glob("Pulumi.*.yaml"))
    if wanted not in ("all", *known):
        raise ToolchainError(f"there is no stack {wanted!r}: the stacks are {', '.join(known)}; or leave STACK out")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        differences: dict[str, str] = {}
        with worktree(base, folder / "base"):
            for stack in known if wanted == "all" else [wanted]:
                before, after = folder / f"{stack}-before", folder / stack
                rendered(folder / "base", stack, before)
                rendered(PROJECT, stack, after)
                differences[stack] = difference(before, after)
    write(FILE, markdown(differences, base))


if __name__ == "__main__":
    run_command(main)
