"""Every test is run by a lane of the Makefile."""

import re
from pathlib import Path

import pytest

from estate.core.paths import PROJECT

FOLDERS = sorted({file.parent.relative_to(PROJECT) for file in PROJECT.glob("tests/**/test_*.py")})
MAKEFILE = (PROJECT / "Makefile").read_text()


@pytest.mark.parametrize("folder", FOLDERS, ids=str)
def test_a_lane_runs_every_folder_of_tests(folder: Path) -> None:
    over = [path for path in (folder, *folder.parents) if path.parts]
    assert any(re.search(rf"(?<=[ =,])tests/{path.relative_to('tests')}(?=[\s)])", MAKEFILE) for path in over[:-1])
