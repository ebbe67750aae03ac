"""The user API, through the Ingress and the gateway."""

from typing import Any

import httpx

from tests.running import Kubectl, create, eventually, reads_back


def test_a_created_user_is_read_back(client: httpx.Client, new_user: dict[str, Any]) -> None:
    user = create(client, new_user)
    assert user == new_user | {"id": user["id"]}
    assert reads_back(client, user)


def test_users_is_an_alias_of_the_first_version(client: httpx.Client, new_user: dict[str, Any]) -> None:
    user = create(client, new_user)
    assert client.get(f"/api/v1/users/{user['id']}").json() == user


def test_a_malformed_id_is_a_bad_request(client: httpx.Client) -> None:
    refused = client.get("/api/v1/users/abc")
    assert refused.status_code == 400
    assert refused.headers["content-type"] == "application/problem+json"


def test_an_unknown_id_is_not_found(client: httpx.Client) -> None:
    assert client.get("/api/v1/users/2000000000").status_code == 404


def test_invalid_json_is_a_bad_request(client: httpx.Client) -> None:
    refused = client.post("/api/v1/users", content=b"{", headers={"content-type": "application/json"})
    assert refused.status_code == 400


def test_every_answer_carries_a_request_id_of_its_own(client: httpx.Client) -> None:
    ids = {client.get("/api/v1/users/1").headers["x-request-id"] for _ in range(3)}
    assert len(ids) == 3


def test_the_gateways_health_is_public(client: httpx.Client) -> None:
    assert client.get("/health").status_code == 200


def test_a_user_survives_the_loss_of_every_app_pod_and_of_postgres(
    client: httpx.Client, new_user: dict[str, Any], kubectl: Kubectl
) -> None:
    user = create(client, new_user)
    kubectl("delete", "pod", "--wait=false", "-l", "app.kubernetes.io/name in (user-service, api-gateway, postgres)")
    kubectl("rollout", "status", "statefulset/postgres", "--timeout=120s")
    kubectl("rollout", "status", "deployment/user-service", "--timeout=120s")
    eventually(lambda: reads_back(client, user), "the user is read back", 120)
    another = create(client, new_user | {"email": f"again-{new_user['email']}"})
    assert reads_back(client, another)
