import json
from pathlib import Path

import pytest

from infra.settings import parse
from tests.minimum import MINIMUM
from toolchain import stack as module
from toolchain.stack import Stack, forget_taken_over, read_yaml
from toolchain.target import Target


def test_what_the_state_has_taken_over_leaves_the_machines_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(module, "OWN_STACKS", tmp_path)
    stack = Stack("dev", parse(MINIMUM, "here"), Target(tmp_path, "context", {}, embedded=True))
    forget_taken_over(stack)  # there is none
    file = tmp_path / "Pulumi.dev.yaml"
    given = {"estate:receiver-pager": {"secure": "v1:given"}}
    generated = {f"estate:{name}": {"secure": "v1:x"} for name in stack.settings.generated_secrets}
    file.write_text(json.dumps({"encryptionsalt": "v1:salt", "config": given | generated}))
    forget_taken_over(stack)
    assert read_yaml(file) == {"encryptionsalt": "v1:salt", "config": given}
