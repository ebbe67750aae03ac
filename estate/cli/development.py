"""Commands for those who change the project."""

from typing import Annotated

import typer

app = typer.Typer()
new, docs = typer.Typer(no_args_is_help=True), typer.Typer(no_args_is_help=True)
app.add_typer(new, name="new", help="Scaffold parts of the project.")
app.add_typer(
    docs, name="docs", help="Write pages and documents that follow from the code; tests check that they are current."
)


@new.command()
def service(
    name: Annotated[str, typer.Argument(help="Name of the service.")],
    calls: Annotated[str | None, typer.Option(help="Services that it calls, with commas between them.")] = None,
    *,
    database: Annotated[bool, typer.Option("--database", help="Give it a table of its own.")] = False,
) -> None:
    """Scaffold a service behind the gateway, with tests."""
    from estate.scaffold import new_service

    new_service.make(name, calls, database=database)


@docs.command()
def architecture() -> None:
    """Draw the program's resources into docs/architecture.md."""
    from estate.scaffold import architecture

    architecture.write()


@docs.command()
def licences() -> None:
    """List the licences of the packages in our images in docs/licences.md."""
    from estate.scaffold import licences

    licences.write()


@docs.command()
def openapi() -> None:
    """Write the OpenAPI documents of user-service."""
    from estate.scaffold import packages

    packages.write_openapi()


@docs.command()
def sbom() -> None:
    """Write the components of each image's Python environment as CycloneDX into build/sbom."""
    from estate.scaffold import packages

    packages.write_components()


@docs.command()
def stack_schema() -> None:
    """Write stacks/stack.schema.json from the model of the settings."""
    from estate.scaffold import stack_schema

    stack_schema.write()


@app.command()
def audit() -> None:
    """List known vulnerabilities of the packages in the lock file; this asks the database OSV."""
    from estate.scaffold import packages

    packages.audit()


@app.command(hidden=True)
def browser() -> None:
    """Install the browser for tests of web pages, unless there is one."""
    from estate.report import browser

    browser.install()
