"""`make review-stack`: the file of the stack that a pull request is reviewed on: stack dev under a name and a host of its own."""

import json
import sys

from toolchain.console import ToolchainError, run_command
from toolchain.markdown import marked, write
from toolchain.paths import PROJECT
from toolchain.stack import STACKS, load, read_yaml


def review_stack(number: int) -> str:
    """Write the stack file of a pull request; returns the stack's name."""
    name = f"pr-{number}"
    content = read_yaml(STACKS / "Pulumi.dev.yaml")
    ingress = content["config"]["estate:settings"]["ingress"]
    ingress["host"] = f"{name}.{ingress['host']}"
    (STACKS / f"Pulumi.{name}.yaml").write_text(json.dumps(content, indent=2, ensure_ascii=False))
    return name


def main() -> None:
    if len(sys.argv) != 2 or not sys.argv[1].isdecimal():
        raise ToolchainError("usage: python -m toolchain.review PR, the number of a pull request")
    name = review_stack(int(sys.argv[1]))
    ingress = load(name).ingress
    write(
        PROJECT / "build" / "review.md",
        marked("review stack", f"Stack {name} of this pull request: {ingress.url(ingress.host)}"),
    )


if __name__ == "__main__":
    run_command(main)
