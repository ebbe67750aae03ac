import logging
import os
import re
from pathlib import Path

import pytest
from servicekit import following
from servicekit.following import Followed
from servicekit.settings import SettingsError, named


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(following, "LOOK_EVERY_S", 0.0)
    file = tmp_path / "number"
    write(file, "1")
    return file


def write(file: Path, text: str) -> None:
    """Replace a file with another of the same name, as the kubelet does, with a different modification time."""
    at = file.stat().st_mtime_ns + 1_000_000 if file.exists() else 1
    new = file.with_suffix(".new")
    new.write_text(text)
    os.utime(new, ns=(at, at))
    new.replace(file)


def test_a_file_that_changes_is_read_again(file: Path) -> None:
    followed = Followed("key", file, int)
    assert followed.content() == 1
    write(file, "2")
    assert followed.content() == 2


def test_a_file_is_not_parsed_again_while_it_stays_the_same(file: Path) -> None:
    parsed: list[str] = []
    followed = Followed("key", file, lambda text: parsed.append(text) or text)
    assert [followed.content() for _ in range(5)] == ["1"] * 5
    assert parsed == ["1"]


def test_a_file_is_looked_at_now_and_then_only(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "LOOK_EVERY_S", 3600.0)
    followed = Followed("key", file, int)
    write(file, "2")
    assert followed.content() == 1


def test_a_new_file_that_is_wrong_is_refused_and_the_old_content_stays(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    followed = Followed("key", file, int)
    write(file, "two")
    with caplog.at_level(logging.ERROR):
        assert followed.content() == 1
    assert "old content stays" in caplog.text
    assert "two" in caplog.records[-1].__dict__["reason"]
    write(file, "3")
    assert followed.content() == 3


def test_a_file_that_goes_away_leaves_its_content(file: Path) -> None:
    followed = Followed("key", file, int)
    file.unlink()
    assert followed.content() == 1
    write(file, "2")
    os.utime(file, ns=(2, 2))
    assert followed.content() == 2


def test_a_file_that_is_no_text_leaves_the_old_content(file: Path) -> None:
    followed = Followed("key", file, int)
    file.write_bytes(b"\xff\xfe")
    assert followed.content() == 1


@pytest.mark.parametrize(("text", "said"), [("one", "invalid literal"), (None, "cannot be read")])
def test_a_file_that_is_wrong_at_the_start_stops_it(file: Path, text: str | None, said: str) -> None:
    if text is None:
        file.unlink()
    else:
        write(file, text)
    with pytest.raises(SettingsError, match=f"{re.escape(named('key', file))}.*{said}"):
        Followed("key", file, int)
