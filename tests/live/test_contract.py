"""The API conforms to its OpenAPI documents for any request; `python -m tests.fuzz` tries more of them."""

import pytest

from tests.fuzz.__main__ import fuzz

EXAMPLES = 20


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_no_answer_is_a_failure_or_undocumented(
    version: str, urls: dict[str, str], token: str, capfd: pytest.CaptureFixture[str]
) -> None:
    code = fuzz(version, urls["gateway"], token, EXAMPLES)
    assert code == 0, capfd.readouterr().out
