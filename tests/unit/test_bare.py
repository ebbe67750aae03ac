"""The machines of tests.support.bare: the packages that the README asks for, and the settings that they get from this one."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from estate.core.console import EstateError
from estate.core.paths import PROJECT
from tests.support import bare
from tests.support.running import eventually


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
    with pytest.raises(EstateError, match="the bare machines need root"):
        bare.main()


ENDS = """
import os
import time
from tests.support import bare

def wait(release):
    (bare.BARE / f"{release}.fresh").mkdir()
    print("runs", flush=True)
    time.sleep(600)

os.geteuid, bare.run_tests = lambda: 0, wait
bare.run_command(bare.main)
"""


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_however_a_run_ends_nothing_of_it_stays_when_the_next_one_begins(end: signal.Signals, tmp_path: Path) -> None:
    places = {"XDG_CACHE_HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path / "state")}
    kept, folder = tmp_path / "estate" / "bare" / "bookworm-0123", tmp_path / "estate" / "bare"
    kept.mkdir(parents=True)
    (folder / "bullseye.unfinished").mkdir()
    for last in (end, signal.SIGTERM):
        words = [sys.executable, "-c", ENDS]
        with subprocess.Popen(words, cwd=PROJECT, env=os.environ | places, stdout=subprocess.PIPE, text=True) as run:
            assert run.stdout
            assert run.stdout.readline() == "runs\n"
            assert sorted(folder.iterdir()) == [kept, folder / "bookworm.fresh"]
            run.send_signal(last)
    assert list(folder.iterdir()) == [kept]
    eventually(lambda: not list((tmp_path / "estate" / "removed").iterdir()), "nothing is left", 60)
