import dataclasses
from pathlib import Path

import pytest

from estate.core.console import EstateError
from estate.tools import build


def test_every_tool_has_its_checksums() -> None:
    tools, _ = build.load()
    assert all((tool.source / name).is_file() for tool in tools for name in ("go.mod", "go.sum"))


def test_another_pin_is_another_folder() -> None:
    tool = build.load()[0][0]
    assert dataclasses.replace(tool, version="0.0.0").folder != tool.folder
    assert dataclasses.replace(tool, variables={"a": "b"}).folder.name != tool.folder.name


def test_a_disk_too_small_is_named_with_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(build, "CACHE", tmp_path)
    monkeypatch.setattr(build, "NEEDED_BYTES", 2**60)
    with pytest.raises(EstateError, match="set XDG_CACHE_HOME to a larger disk"):
        build.check_requirements(build.load()[0])


def test_what_is_built_is_not_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(build, "CACHE", tmp_path)
    monkeypatch.setattr(build, "NEEDED_BYTES", 2**60)
    build.check_requirements([])
