"""Commands that review a change, and take a release from stack to stack."""

from pathlib import Path
from typing import Annotated

import typer

from estate.cli.options import LOCAL, StackName

app = typer.Typer()
policy, review = typer.Typer(no_args_is_help=True), typer.Typer(no_args_is_help=True)
app.add_typer(policy, name="policy", help="Check policies.")
app.add_typer(review, name="review", help="Make stacks for the review of pull requests.")


@app.command()
def promote(
    source: Annotated[str, typer.Argument(metavar="FROM", help="Stack that runs the release.")],
    to: Annotated[str, typer.Argument(metavar="TO", help="Stack that takes it.")],
) -> None:
    """Write the release that one stack runs into the file of another, by the same digests."""
    from estate.delivery import promotion

    promotion.promote(source, to)


@app.command()
def render(stack: StackName = LOCAL) -> None:
    """Write the manifests of a stack into build/manifests/STACK, without a cluster."""
    from estate.pulumi import render

    render.write(stack)


@app.command()
def diff(
    base: Annotated[str, typer.Option(help="Revision to compare with.")] = "origin/main",
    stack: Annotated[str, typer.Option("--stack", "-s", help="Name of the stack.")] = "all",
) -> None:
    """Write the differences of every stack's manifests from another revision's into build/render-diff.md."""
    from estate.delivery import render_diff

    render_diff.compare(base, stack)


@policy.command()
def check(
    stack: StackName = LOCAL,
    state: Annotated[Path | None, typer.Option(help="File with the output of pulumi stack export.")] = None,
) -> None:
    """Check a stack with its policies, without a cluster."""
    from estate.pulumi import policies

    policies.check(stack, state)


@review.command()
def create(number: Annotated[str, typer.Argument(metavar="PR", help="Number of the pull request.")]) -> None:
    """Write the file of the stack pr-NUMBER."""
    from estate.delivery import review

    review.create(number)
