"""Variables for a shell in which kubectl and pulumi use the estate."""

import subprocess
from pathlib import Path

from estate import UV_OPTIONS
from estate.stack.shell_env import exports
from estate.stack.target import Target

OF = Target(
    Path("/a b/kubeconfig"),
    "estate",
    {"KUBECONFIG": "/a b/kubeconfig", "PULUMI_HOME": "/it's", "KEPT": "as it is", "PATH": "/else"},
    embedded=True,
)


def reported(name: str) -> str:
    """Return a variable's value in a shell after it has evaluated the output."""
    script = "\n".join(
        [*exports(OF, [Path("/tools")], Path("/venv/bin"), {"KEPT": "as it is"}), f'printf %s "${name}"']
    )
    return subprocess.run(
        ["/bin/bash", "-c", script], env={"PATH": "/usr/bin"}, capture_output=True, text=True, check=True
    ).stdout


def test_a_shell_takes_every_value_as_it_is() -> None:
    assert reported("KUBECONFIG") == "/a b/kubeconfig"
    assert reported("PULUMI_HOME") == "/it's"


def test_the_tools_come_before_what_the_shell_finds_and_our_python_after() -> None:
    assert reported("PATH") == "/tools:/usr/bin:/venv/bin"


def test_what_make_has_set_itself_is_no_value_of_the_shell() -> None:
    of = Target(Path("/kubeconfig"), "estate", dict(UV_OPTIONS), embedded=True)
    assert all(
        f"export {name}={value}" in exports(of, [], Path("/venv/bin"), UV_OPTIONS) for name, value in UV_OPTIONS.items()
    )


def test_a_variable_that_the_shell_has_is_left_out() -> None:
    assert reported("KEPT") == ""
