from pathlib import Path

import pytest

from estate.core.console import EstateError
from estate.delivery import review
from estate.stack.model import STACKS
from infra.settings.load import load_stack


def test_a_pull_request_is_reviewed_on_a_stack_like_dev_at_a_host_of_its_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    dev = load_stack(STACKS / "Pulumi.dev.yaml")
    (tmp_path / "Pulumi.dev.yaml").write_text((STACKS / "Pulumi.dev.yaml").read_text())
    monkeypatch.setattr(review, "STACKS", tmp_path)

    assert review.review_stack("12") == "pr-12"

    written = load_stack(tmp_path / "Pulumi.pr-12.yaml")
    assert written.ingress.host == "pr-12.api-dev.myapp.com"
    assert written == dev.model_copy(update={"ingress": written.ingress})


@pytest.mark.parametrize("number", ["", "0", "007", "x", "-1", "1 2", "12\n", "٣", "1" * 11, "1" * 80, "../x"])
def test_what_is_no_number_of_a_pull_request_writes_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: str
) -> None:
    (tmp_path / "Pulumi.dev.yaml").write_text((STACKS / "Pulumi.dev.yaml").read_text())
    monkeypatch.setattr(review, "STACKS", tmp_path)
    with pytest.raises(EstateError, match="is no number of a pull request"):
        review.review_stack(number)
    assert [file.name for file in tmp_path.iterdir()] == ["Pulumi.dev.yaml"]
