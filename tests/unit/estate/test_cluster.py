import re
import socket
from pathlib import Path

import pytest
import yaml

from estate.cluster import addons, components, network, pki, preflight, supervision
from estate.cluster.layout import CONTEXT, MIRRORED
from estate.cluster.standins import embedded, known
from estate.core.console import EstateError
from estate.tools.build import Toolbox
from infra.settings.routes import Route


def test_only_chains_of_our_own_are_removed() -> None:
    rules = [
        "*nat",
        ":POSTROUTING ACCEPT [0:0]",
        ":KUBE-SERVICES - [0:0]",
        ":ESTATE-EGRESS - [0:0]",
        "-A POSTROUTING -j ESTATE-EGRESS",
        "-A PREROUTING -m comment --comment x -j KUBE-SERVICES",
        "-A POSTROUTING -s 172.17.0.0/16 -j MASQUERADE",
        "COMMIT",
    ]
    assert network.without_own(rules) == [rules[0], rules[1], rules[6], rules[7]]


def test_only_address_sets_of_our_own_are_removed() -> None:
    own = ["KUBE-SRC-AGTR5EDJTVDQ2D7Z", "KUBE-DST-3YNVZWWGX3UQQ4VQ", "TMP-7NOTZDOMLXBX6DAJ"]
    assert network.own_among([*own, "KUBE-LOOP-BACK", "blocklist", "TMP-blocklist"]) == own


def test_the_holder_of_a_port_is_found() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert preflight.port_holder(port) is not None
    assert preflight.port_holder(port) is None


def test_a_port_is_taken_also_where_nothing_lists_holders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert preflight.port_holder(taken.getsockname()[1]) == "another program"


def test_name_servers_on_loopback_are_left_out(tmp_path: Path) -> None:
    file = tmp_path / "resolv.conf"
    file.write_text("search example.com\nnameserver 127.0.0.53\nnameserver 192.0.2.53\n")
    assert components.resolv_conf(file) == "nameserver 192.0.2.53\n"


def test_the_kubeconfig_has_one_name_for_everything() -> None:
    admin = yaml.safe_dump(
        {"clusters": [{"name": "x", "cluster": {"server": "s"}}], "users": [{"name": "y", "user": {}}]}
    )
    config = yaml.safe_load(pki.own_kubeconfig(admin))
    assert config["current-context"] == CONTEXT
    assert config["contexts"] == [{"name": CONTEXT, "context": {"cluster": CONTEXT, "user": CONTEXT}}]


def test_a_rollout_in_progress_is_not_ready() -> None:
    rolling = {
        "kind": "Deployment",
        "metadata": {"name": "d", "generation": 2},
        "status": {"observedGeneration": 2, "availableReplicas": 1, "updatedReplicas": 1, "replicas": 2},
    }
    assert not addons.is_ready(rolling)
    rolling["status"] = {"observedGeneration": 2, "availableReplicas": 1, "updatedReplicas": 1, "replicas": 1}
    assert addons.is_ready(rolling)


def test_the_ingress_waits_longer_than_any_route() -> None:
    given = (addons.MANIFESTS / "ingress.yaml").read_text()
    waits_s = dict(
        re.findall(
            r"^ *- -((?:read|write)-timeout-server|response-header-timeout-backend)=(\d+)s$", given, re.MULTILINE
        )
    )
    assert len(waits_s) == 3
    assert min(map(int, waits_s.values())) > Route.model_json_schema()["properties"]["timeout_s"]["maximum"]


def test_every_component_has_a_name_of_its_own() -> None:
    names = [component.name for component in components.components()]
    assert len(names) == len(set(names))


def test_a_component_of_another_command_is_seen_as_redefined(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(supervision, "SERVICES_DIR", tmp_path / "services")
    monkeypatch.setattr(supervision, "LOGS", tmp_path / "logs")
    component = supervision.Component("etcd", ["etcd", "--name=a b"], lambda: True)
    assert not supervision.is_defined(component)
    supervision.define(component)
    assert supervision.is_defined(component)
    assert not supervision.is_defined(supervision.Component("etcd", ["etcd"], lambda: True))


def test_without_root_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight.os, "geteuid", lambda: 1000)
    with pytest.raises(EstateError, match=r"run it as root, or .*--target system"):
        preflight.check_rights()


def test_of_the_operators_release_only_what_the_cluster_has_of_its_own_is_left_out(tmp_path: Path) -> None:
    box = Toolbox(tmp_path, tmp_path)
    box.bin.mkdir()
    kinds = ["Namespace", "CustomResourceDefinition", "Deployment", "ValidatingWebhookConfiguration"]
    documents = [f"apiVersion: v1\nkind: {kind}\nspec:\n  kind: Deployment" for kind in kinds]
    (box.bin / "cnpg-1.0.0.yaml").write_text("\n---\n".join(documents))
    assert addons.released(box) == [documents[1], documents[3]]


def test_every_stand_in_is_where_its_registrys_mirror_is_asked_for_it() -> None:
    assert {reference.partition("/")[0] for reference in known()} <= set(MIRRORED)
    assert embedded("ghcr.io/a/b:1") == "127.0.0.1:5000/a/b:1"
    assert embedded("docker.io/library/b:1") == "127.0.0.1:5000/library/b:1"


def test_addons_of_other_tools_or_manifests_are_not_the_applied_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ingress.yaml").write_text("kind: A")
    monkeypatch.setattr(addons, "MANIFESTS", tmp_path)
    monkeypatch.setattr(addons, "APPLIED", tmp_path / "applied")
    box = Toolbox(tmp_path / "all-1", tmp_path)
    assert not addons.are_applied(box)
    addons.APPLIED.write_text(addons.version(box))
    assert addons.are_applied(box)
    assert not addons.are_applied(Toolbox(tmp_path / "all-2", tmp_path))
    (tmp_path / "ingress.yaml").write_text("kind: B")
    assert not addons.are_applied(box)
