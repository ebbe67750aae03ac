from pathlib import Path

import pytest

from infra.settings import SettingsError, load_cluster, load_stack, parse
from toolchain.paths import PROJECT


def test_every_stack_file_is_valid() -> None:
    for file in (PROJECT / "stacks").glob("Pulumi.*.yaml"):
        load_stack(file)


def test_a_table_that_says_one_thing_leaves_the_other_defaults() -> None:
    settings = parse({"registry": "r", "api_gateway": {"requests": {"cpu": "1", "memory": "1Mi"}}}, "here")
    assert settings.api_gateway.replicas == 2
    assert settings.user_service.replicas == 3


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"registry": "r", "ingres": {}}, "here: ingres is not known: did you mean ingress?"),
        ({"registry": "r", "ingress": {"hots": "x"}}, "here: ingress.hots is not known: did you mean host?"),
        ({"registry": "r", "user_service": {"replicas": 0}}, r"user_service.replicas: .*greater than or equal to 1"),
        ({}, "here: registry: field required"),
        (None, "here has no settings: put them under"),
    ],
)
def test_a_wrong_setting_is_named_with_what_to_do(values: object, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        parse(values, "here")


def test_a_file_that_is_not_yaml_is_named_with_the_line(tmp_path: Path) -> None:
    file = tmp_path / "Pulumi.x.yaml"
    file.write_text("config:\n  a: [\n")
    with pytest.raises(SettingsError, match=r"Pulumi.x.yaml line 3 is not YAML"):
        load_stack(file)


def test_no_cluster_is_guessed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ESTATE_KUBECONFIG", raising=False)
    with pytest.raises(SettingsError, match="run this through make"):
        load_cluster()
