"""Every test is run by a lane."""

from pathlib import Path

import pytest

from estate.core.paths import PROJECT
from tests.lanes import DRILLS, LANES, ORDER

FILES = sorted(str(file.relative_to(PROJECT)) for file in PROJECT.glob("tests/**/test_*.py"))
BY_DEFAULT = {"fast", *(lane for groups in ORDER.values() for group in groups for lane in group)}
"""Lanes that `make test-all` runs."""


def runs(command: tuple[str, ...], file: str) -> bool:
    """Return whether a run of pytest has the tests of a file."""
    ignored = [word.removeprefix("--ignore=") for word in command if word.startswith("--ignore=")]
    return file not in ignored and any(Path(file).is_relative_to(word) for word in command)


@pytest.mark.parametrize("file", FILES)
def test_one_lane_runs_each_file_of_tests(file: str) -> None:
    assert len([name for name, steps in LANES.items() for step in steps if runs(step, file)]) == 1


def test_every_lane_is_run_and_its_paths_exist() -> None:
    assert LANES.keys() == BY_DEFAULT
    paths = {word.removeprefix("--ignore=") for steps in LANES.values() for step in steps for word in step}
    assert all((PROJECT / path).exists() for path in paths if "/" in path)
    assert all((PROJECT / drill).exists() for drill in DRILLS)
