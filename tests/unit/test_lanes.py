"""Every test is run by a lane of the Makefile."""

import re

import pytest

from estate.core.paths import PROJECT

FOLDERS = sorted({file.relative_to(PROJECT / "tests").parts[0] for file in PROJECT.glob("tests/*/**/test_*.py")})


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_lane_runs_every_folder_of_tests(folder: str) -> None:
    assert re.search(rf"\btests/{folder}\b", (PROJECT / "Makefile").read_text())
