from pathlib import Path

import pytest
import yaml

from estate.core.console import EstateError
from estate.pulumi import render
from infra.services import Service
from infra.settings.load import load_stack
from infra.settings.secrets import GENERATED_SECRETS
from tests.support.declarations import declare

OWN_DIGEST = "registry.example.com/user-service@sha256:" + "1" * 64


def test_a_stack_is_rendered_without_its_secrets_and_without_building(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "Pulumi.team.yaml"
    secret = {"secure": "v1:cannot-be-read-here"}
    settings = {
        "stage": "local",
        "registry": "registry.example.com",
        "api_server": {"networks": ["192.0.2.1/32"]},
        "ingress": {"namespace": "ingress-nginx"},
        "build": True,
        "digests": {"user-service": OWN_DIGEST},
    }
    config = {
        "estate:settings": settings,
        "pulumi:disable-default-providers": ["kubernetes"],
        "estate:previousTokenKey": secret,
    }
    file.write_text(
        yaml.safe_dump(
            {
                "encryptedkey": "AQICAHh",
                "config": config | dict.fromkeys((f"estate:{name}" for name in GENERATED_SECRETS), secret),
            }
        )
    )
    monkeypatch.setattr(render, "STACKS", tmp_path)

    own = Service("user-service", (), (), secrets=("mail-password",))
    declare(monkeypatch, own)

    rendered = render.configuration("team", load_stack(file))

    assert rendered.pop("estate:settings") == settings | {
        "build": False,
        "digests": {"user-service": OWN_DIGEST, "api-gateway": f"registry.example.com/api-gateway@{render.DIGEST}"},
    }
    assert rendered == {"pulumi:disable-default-providers": ["kubernetes"]} | dict.fromkeys(
        (f"estate:{name}" for name in (*GENERATED_SECRETS, "user-service-mail-password")), render.PLACEHOLDER
    )


@pytest.mark.parametrize(("name", "said"), [("absent", "there is no stack"), ("../..", "is no name of a stack")])
def test_nothing_is_removed_for_a_stack_that_there_is_not(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / "kept").touch()
    with pytest.raises(EstateError, match=said):
        render.render(name, tmp_path)
    assert (tmp_path / "kept").exists()
