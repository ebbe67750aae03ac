from pathlib import Path

import pytest
from user_service.documents import VERSIONS, write

from estate.core.paths import PROJECT


@pytest.mark.parametrize("version", VERSIONS)
def test_the_document_that_was_promised_is_the_one_that_is_served(tmp_path: Path, version: str) -> None:
    write(tmp_path)
    promised = (PROJECT / "apps" / "user-service" / "openapi" / f"{version}.json").read_text()
    assert (tmp_path / f"{version}.json").read_text() == promised, (
        "a compatible change? estate docs openapi; v1 is frozen"
    )
