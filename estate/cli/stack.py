"""Commands that bring a stack up, look at it, and take it down."""

from pathlib import Path
from typing import Annotated

import typer

from estate.cli.options import LOCAL, Agreed, AsJson, NamedStack, StackName
from estate.core.console import DEVIATION, timed

app = typer.Typer()


@app.command()
def up(stack: StackName = LOCAL, *, yes: Agreed = False) -> None:
    """Bring a stack up (cluster, images, everything), and print its URLs."""
    from estate.ops import update

    with timed():
        update.up(stack, agreed=yes)


@app.command()
def preview(
    stack: StackName = LOCAL,
    *,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Write a comment for a pull request into build/preview/STACK.md.")
    ] = False,
) -> None:
    """Show the changes that `up` would make."""
    from estate.delivery import preview_summary
    from estate.ops import update

    if markdown:
        preview_summary.summarize(stack)
    else:
        update.preview(stack)


@app.command()
def down(stack: NamedStack, *, yes: Agreed = False) -> None:
    """Remove a stack's resources and data; the cluster stays."""
    from estate.ops import update

    with timed():
        update.down(stack, agreed=yes)


@app.command()
def status(stack: StackName = LOCAL, *, json: AsJson = False) -> None:
    """Show the health of a stack, and exit with 3 if something is not as it should be."""
    from estate.report import status

    if not status.show(stack, as_json=json):
        raise typer.Exit(DEVIATION)


@app.command()
def urls(
    name: Annotated[str | None, typer.Argument(help="One of gateway, prometheus, consul, alertmanager.")] = None,
    stack: StackName = LOCAL,
    *,
    json: AsJson = False,
) -> None:
    """Print the URLs of a stack, or one of them."""
    from estate.ops import update

    update.show_url(stack, name, as_json=json) if name is not None else update.list_urls(stack, as_json=json)


@app.command()
def logs(
    app_name: Annotated[str, typer.Argument(metavar="APP", help="Name of the app.")] = "user-service",
    request: Annotated[str | None, typer.Option(help="Id of a request to find in the logs of all services.")] = None,
    stack: StackName = LOCAL,
) -> None:
    """Follow the logs of an app, or find a request in the logs of all services."""
    from estate.report import logs

    logs.show_request(stack, request) if request is not None else logs.show_app(stack, app_name)


@app.command()
def rollback(stack: StackName = LOCAL) -> None:
    """Bring our services back to the release before the last one."""
    from estate.ops import rollback

    rollback.roll_back(stack)


@app.command()
def drift(stack: StackName = LOCAL) -> None:
    """List the differences from the last update in build/drift/STACK.md, and exit with 3 if there are any."""
    from estate.delivery import drift

    if drift.differs(stack):
        raise typer.Exit(DEVIATION)


@app.command()
def dashboard(
    stack: StackName = LOCAL,
    minutes: Annotated[int, typer.Option(min=1, max=10_080, help="Minutes to show, a week at most.")] = 30,
    png: Annotated[Path | None, typer.Option(help="Write a picture into this file.")] = None,
) -> None:
    """Show the last minutes as a page of pictures, without Grafana."""
    from estate.report import dashboard

    dashboard.show(stack, minutes, png)


@app.command()
def env() -> None:
    """Print the settings with which kubectl and pulumi in a shell work on the estate: eval "$(estate env)"."""
    from estate.stack import shell_env

    shell_env.show()
