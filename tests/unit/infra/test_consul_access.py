"""Values derived from Consul's one secret."""

import base64
import uuid

from infra.consul_access import gossip_key, policies, token


def test_tokens_follow_from_the_secret_and_the_name() -> None:
    assert token("seed", "user-service") == token("seed", "user-service")
    assert len({token("seed", "a"), token("seed", "b"), token("other", "a")}) == 3
    assert uuid.UUID(token("seed", "a")).version == 4


def test_the_key_of_gossip_is_of_32_bytes_and_no_token() -> None:
    key = base64.b64decode(gossip_key("seed"))
    assert len(key) == 32
    assert uuid.UUID(token("seed", "gossip")).bytes != key[:16]


def test_only_the_gateway_looks_for_others() -> None:
    rules = policies(["gateway", "users"], "gateway", "consul-server-", "consul-")
    assert rules["users"] == 'service "users" { policy = "write" }\n'
    assert 'service_prefix "" { policy = "read" }' in rules["gateway"]
    assert "users" not in rules["gateway"]
