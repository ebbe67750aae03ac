"""The machines of `make test-bare`: what the README asks for, and what they have of this one."""

import os
import re
from pathlib import Path

import pytest

from tests import bare
from toolchain.console import ToolchainError
from toolchain.paths import PROJECT


def test_a_bare_machine_has_what_the_readme_asks_for() -> None:
    (asked,) = re.findall(r"on Debian 12 or 13 (.*?) are enough", (PROJECT / "README.md").read_text())
    assert sorted(re.findall(r"`([^`]+)`", asked)) == sorted(bare.PACKAGES)


def test_a_bare_machine_has_nothing_of_this_environment_but_its_registries() -> None:
    here = {"PIP_INDEX_URL": "https://pip.example", "https_proxy": "http://proxy.example", "PYTHONUNBUFFERED": "1"}
    there = bare.environment_of(here | {"HOME": "/root", "PATH": "/opt/bin", "SSL_CERT_FILE": "/opt/ca.pem"})
    assert there == bare.ENVIRONMENT | {"PIP_INDEX_URL": "https://pip.example", "https_proxy": "http://proxy.example"}


def test_what_leads_to_the_registries_is_replaced_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, home, here = tmp_path / "root", tmp_path / "home", tmp_path / "here"
    for file in (home / ".config/uv/uv.toml", here / ".config/pip/pip.conf"):
        file.parent.mkdir(parents=True)
        file.write_text(file.name)
    (root / "etc/ssl/certs").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(here))
    monkeypatch.setattr(bare, "CONFIGURATIONS", ("~/.config/pip/pip.conf", "~/.config/uv/uv.toml"))
    bare.connect_registries(root, home)
    assert (home / ".config/pip/pip.conf").read_text() == "pip.conf"
    assert not (home / ".config/uv/uv.toml").exists()
    assert (root / "etc/resolv.conf").read_bytes() == Path("/etc/resolv.conf").read_bytes()


def test_without_root_it_says_what_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(ToolchainError, match="make test-bare needs root"):
        bare.main()
