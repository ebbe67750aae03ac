"""Commands on the embedded cluster and its tools."""

import typer

from estate.cli.options import Agreed
from estate.core.console import timed

app = typer.Typer()
cluster, tools = typer.Typer(no_args_is_help=True), typer.Typer(no_args_is_help=True)
app.add_typer(cluster, name="cluster", help="Start and stop the embedded Kubernetes.")
app.add_typer(tools, name="tools", help="Build the tools.")


@cluster.command()
def start() -> None:
    """Start the embedded Kubernetes, unless it is running."""
    from estate.cluster import lifecycle

    with timed():
        lifecycle.start()


@cluster.command()
def stop() -> None:
    """Stop the embedded Kubernetes; its data stays."""
    from estate.cluster import lifecycle

    with timed():
        lifecycle.stop()


@cluster.command()
def reset(*, yes: Agreed = False) -> None:
    """Stop the embedded Kubernetes, and delete its data."""
    from estate.cluster import lifecycle

    with timed():
        lifecycle.reset(agreed=yes)


@tools.command()
def build() -> None:
    """Build the tools that are missing, into a cache per user."""
    from estate.core.console import say
    from estate.tools.build import build_missing

    say(f"tools ready in {build_missing().bin}")
