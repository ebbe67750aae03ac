"""`estate review create`: write the stack file of a pull request's review environment: stack dev with another name and host."""

import json
import re

from estate.core.console import UsageError
from estate.core.markdown import marked, write
from estate.core.paths import PROJECT
from estate.stack.model import STACKS, load, read_yaml

NUMBER = re.compile(r"[1-9][0-9]{0,9}")


def review_stack(number: str) -> str:
    """Write the stack file of a pull request, and return the stack's name.

    Raises:
        UsageError: this is not a valid number of a pull request; nothing was written.
    """
    if not NUMBER.fullmatch(number):
        raise UsageError(
            f"{number!r} is no number of a pull request: it has 1 to 10 digits, and no 0 in front, as in estate review create 12"
        )
    name = f"pr-{number}"
    content = read_yaml(STACKS / "Pulumi.dev.yaml")
    ingress = content["config"]["estate:settings"]["ingress"]
    ingress["host"] = f"{name}.{ingress['host']}"
    (STACKS / f"Pulumi.{name}.yaml").write_text(json.dumps(content, indent=2, ensure_ascii=False))
    return name


def create(number: str) -> None:
    """Write the stack file of a pull request, and a comment with its URL into build/review.md."""
    name = review_stack(number)
    ingress = load(name).ingress
    write(
        PROJECT / "build" / "review.md",
        marked("review stack", f"Stack {name} of this pull request: {ingress.url(ingress.host)}"),
    )
