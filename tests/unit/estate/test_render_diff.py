from pathlib import Path

import pytest

from estate.core.console import EstateError
from estate.delivery import render_diff
from estate.delivery.render_diff import difference, markdown, without_random_names, worktree

SECRET = """kind: Secret
metadata:
  annotations:
    pulumi.com/autonamed: "true"
  name: redis-{suffix}
"""
POD = """spec:
  replicas: {replicas}
  volumes: [redis-{suffix}]
"""


def manifests(folder: Path, suffix: str, replicas: int) -> Path:
    """Write manifests as two renderings do: with another name each time."""
    folder.mkdir()
    (folder / f"v1-secret-redis-{suffix}.yaml").write_text(SECRET.format(suffix=suffix))
    (folder / "v1-pod-redis.yaml").write_text(POD.format(suffix=suffix, replicas=replicas))
    without_random_names(folder)
    return folder


def test_random_names_are_no_difference(tmp_path: Path) -> None:
    assert difference(manifests(tmp_path / "before", "0123abcd", 3), manifests(tmp_path / "after", "9e8d7c6b", 3)) == ""


def test_a_difference_is_shown_with_its_manifest(tmp_path: Path) -> None:
    reported = difference(manifests(tmp_path / "before", "0123abcd", 3), manifests(tmp_path / "after", "9e8d7c6b", 5))
    assert reported.splitlines()[:2] == ["--- before/v1-pod-redis.yaml", "+++ after/v1-pod-redis.yaml"]
    assert "-  replicas: 3\n+  replicas: 5" in reported


def test_a_new_or_removed_manifest_is_shown_whole(tmp_path: Path) -> None:
    before, after = manifests(tmp_path / "before", "0123abcd", 3), manifests(tmp_path / "after", "9e8d7c6b", 3)
    (before / "v1-secret-redis.yaml").unlink()
    assert '+    pulumi.com/autonamed: "true"' in difference(before, after)
    assert '-    pulumi.com/autonamed: "true"' in difference(after, before)


def test_a_comment_folds_what_changed_and_names_what_did_not() -> None:
    text = markdown({"dev": "", "prod": "--- a\n+++ b\n-x\n+y\n+z"}, "main")
    assert text.startswith("<!-- estate: rendered manifests -->\n\n### Manifests, since main\n\nUnchanged: dev\n")
    assert "<summary>Stack prod: +2 -1 lines</summary>\n\n`````diff\n" in text


def test_a_long_diff_is_cut_and_says_so() -> None:
    text = markdown({"prod": "+x\n" * 100_000}, "main")
    assert len(text) < 65_536
    assert "Cut here" in text


def test_a_revision_that_is_not_here_is_named_with_what_to_do(tmp_path: Path) -> None:
    with (
        pytest.raises(EstateError, match="--base nowhere is no commit of this clone: git fetch"),
        worktree("nowhere", tmp_path / "w"),
    ):
        raise AssertionError


@pytest.mark.parametrize("base", ["-x", "--help", "-"])
def test_an_option_is_no_base(tmp_path: Path, base: str) -> None:
    with pytest.raises(EstateError, match=f"--base {base} is no revision"), worktree(base, tmp_path / "base"):
        pytest.fail("there is no such revision")


def test_a_stack_that_cannot_be_rendered_hides_no_other(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[str] = []

    def rendered(_project: Path, stack: str, to: Path) -> None:
        asked.append(stack)
        to.mkdir(parents=True)
        if stack == "dev":
            raise EstateError("Pulumi.dev.yaml: line 3: it is wrong")

    monkeypatch.setattr(render_diff, "rendered", rendered)
    monkeypatch.setattr(render_diff, "FILE", tmp_path / "comment.md")
    with pytest.raises(EstateError, match="line 3: it is wrong"):
        render_diff.compare("HEAD", "all")
    assert {"dev", "local", "prod", "staging"} <= set(asked)
    text = (tmp_path / "comment.md").read_text()
    assert "Unchanged: local, prod, staging" in text
    assert "Stack dev cannot be rendered:\n\n`````" in text
