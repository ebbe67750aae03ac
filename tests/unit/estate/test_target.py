"""The tools that commands use on the embedded cluster, and the error where it is not running."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from estate import DIRECT
from estate.cluster import layout, tools
from estate.core.console import EstateError
from estate.core.paths import PROJECT
from estate.stack import shell_env, target
from estate.tools.build import Toolbox


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Toolbox:
    """Return the tools of a cluster that was started before a pull that has changed them."""
    before, after = (Toolbox(tmp_path / name, tmp_path / f"debian-{name}") for name in ("before", "after"))
    before.bin.mkdir(parents=True)
    (tmp_path / "kubeconfig").touch()
    monkeypatch.setattr(layout, "KUBECONFIG", tmp_path / "kubeconfig")
    monkeypatch.setattr(tools, "TOOLS", tmp_path / "tools.json")
    monkeypatch.setattr(tools, "toolbox", lambda: after)
    monkeypatch.setattr(target, "pulumi_environment", lambda *_: {})  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]
    monkeypatch.delenv("ESTATE_TARGET", raising=False)
    tools.keep(before)
    return before


def test_until_other_tools_are_built_commands_use_those_that_the_cluster_was_started_with(
    started: Toolbox, capsys: pytest.CaptureFixture[str]
) -> None:
    environment = target.target().environment
    assert environment["PATH"].startswith(f"{started.bin}{os.pathsep}{started.debian}")
    assert environment["PULUMI_HOME"] == str(started.pulumi_home)
    shell_env.show()
    assert f"export PATH={shlex.quote(str(started.bin))}:" in capsys.readouterr().out


def test_once_they_are_built_commands_use_those_of_the_checkout(started: Toolbox) -> None:
    after = tools.toolbox()
    after.bin.mkdir(parents=True)
    assert target.target().environment["PATH"].startswith(str(after.bin))
    assert tools.at_hand() != started


def test_tools_that_are_not_there_are_no_cluster_that_is_not_there(started: Toolbox) -> None:
    started.bin.rmdir()
    started.folder.rmdir()
    with pytest.raises(EstateError, match="estate tools build builds them"):
        target.target()


@pytest.mark.usefixtures("started")
def test_a_cluster_that_was_started_before_its_tools_were_written_down_is_one() -> None:
    tools.TOOLS.unlink()
    with pytest.raises(EstateError, match="estate tools build builds them"):
        target.target()


@pytest.mark.usefixtures("started")
def test_where_there_is_no_cluster_it_is_said_what_makes_one() -> None:
    layout.KUBECONFIG.unlink()
    with pytest.raises(EstateError, match="there is no embedded cluster yet"):
        target.target()


def test_a_context_is_for_the_tools_of_the_machine_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ESTATE_CONTEXT", "kind-estate")
    monkeypatch.delenv("ESTATE_TARGET", raising=False)
    with pytest.raises(
        EstateError, match=r"--context kind-estate (?s:.*)add --target system, or leave the context out"
    ):
        target.target()


def test_uv_uses_the_machines_python_and_authorities_however_the_command_is_started() -> None:
    code = "import os, estate; print(*(f'{name}={os.environ[name]}' for name in estate.UV_OPTIONS))"
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, env={}, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["UV_PYTHON_DOWNLOADS=never", "UV_SYSTEM_CERTS=true"]


PRINTING = "import os, estate; print(os.environ.get('no_proxy'), os.environ.get('NO_PROXY'))"


@pytest.mark.parametrize(
    ("given", "direct"),
    [
        ({}, "None None"),
        ({"HTTPS_PROXY": "http://proxy:3128"}, f"{DIRECT} {DIRECT}"),
        ({"http_proxy": "http://proxy:3128", "NO_PROXY": ".corp"}, f".corp,{DIRECT} .corp,{DIRECT}"),
    ],
)
def test_no_proxy_is_asked_for_what_is_on_this_machine(given: dict[str, str], direct: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PRINTING], cwd=PROJECT, env=given, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == direct
    assert str(layout.OWN) in DIRECT.split(",")
    assert str(layout.NODE) in DIRECT.split(",")
