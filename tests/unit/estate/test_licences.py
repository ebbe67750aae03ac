"""The table of licences, from the metadata of packages in a folder."""

from pathlib import Path

import pytest

from estate.core.console import EstateError
from estate.scaffold.licences import listed


@pytest.mark.parametrize("folder", ["packages", "my packages", 'it\'s "quoted" $HOME'])
def test_the_packages_in_a_folder_are_listed_whatever_its_path(tmp_path: Path, folder: str) -> None:
    packages = tmp_path / folder
    for name in ("one", "two"):
        metadata = packages / f"{name}-1.0.dist-info" / "METADATA"
        metadata.parent.mkdir(parents=True)
        metadata.write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\nLicense: MIT\n")
    head, line, *rows = listed(packages).splitlines()
    assert (head.split(), line.split()[0][:2]) == (["|", "Name", "|", "License", "|", "URL", "|"], "|-")
    assert [row.split()[1:4] for row in rows] == [["one", "|", "MIT"], ["two", "|", "MIT"]]


def test_no_packages_are_an_error_and_no_empty_table(tmp_path: Path) -> None:
    with pytest.raises(EstateError, match="there are no packages in"):
        listed(tmp_path)
