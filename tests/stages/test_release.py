"""Releases of a stack that does not build: a good one, a bad one that never becomes ready, and the rollback."""

import json
from collections import Counter
from pathlib import Path

import pytest

from estate.stack.model import Stack
from tests.support.load import Load
from tests.support.running import Kubectl
from tests.support.stacks import LIGHT, estate, variant, write_stack

LAST_WORDS = "error: this release is broken"


def running(kubectl: Kubectl) -> Counter[str]:
    """Return the images of user-service's pods that are ready and not terminating, with their number."""
    found = json.loads(kubectl("get", "pods", "--selector=app.kubernetes.io/name=user-service", "-o", "json"))["items"]
    return Counter(
        pod["spec"]["containers"][0]["image"]
        for pod in found
        if "deletionTimestamp" not in pod["metadata"] and pod["status"]["containerStatuses"][0]["ready"]
    )


@pytest.mark.timeout(900)
def test_a_good_release_replaces_the_old_a_bad_one_never_serves_and_a_rollback_leads_back(
    stack: Stack, images: dict[str, str], load: Load, kubectl: Kubectl, tmp_path: Path
) -> None:
    good = variant(images, tmp_path, "good", "LABEL release=good")
    bad = variant(
        images, tmp_path, "bad", f"""ENTRYPOINT ["/app/.venv/bin/python", "-c", "raise SystemExit('{LAST_WORDS}')"]"""
    )
    with load:
        write_stack(stack.name, "staging", digests=good, **LIGHT)
        released = estate("up", stack=stack.name)
        assert released.returncode == 0, released.stdout + released.stderr
        assert running(kubectl).keys() == {good["user-service"]}

        write_stack(stack.name, "staging", digests=bad, **LIGHT)
        refused = estate("up", stack=stack.name)
        assert refused.returncode != 0
        assert LAST_WORDS in refused.stderr
        assert running(kubectl) == {good["user-service"]: 3}

        back = estate("rollback", stack=stack.name)
        assert back.returncode == 0, back.stdout + back.stderr
        assert f"user-service goes back to {good['user-service']}" in back.stdout
        assert running(kubectl) == {good["user-service"]: 3}

        write_stack(stack.name, "staging", digests=good, **LIGHT)
        again = estate("up", stack=stack.name)
        assert again.returncode == 0, again.stdout + again.stderr
    assert load.failures() == {}
    assert load.stale == []
    assert load.lost() == []
    print(dict(load.answers))
