"""The user API, through the Ingress and the gateway."""

import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.support.running import Kubectl, connect, create, eventually, reads_back, settle, version_in

CLIENTS = 100
USERS = "/api/v1/users"


@pytest.fixture
def user(client: httpx.Client, new_user: dict[str, Any]) -> Iterator[dict[str, Any]]:
    user = create(client, new_user)
    yield user
    delete(client, user["id"])


def delete(client: httpx.Client, number: int) -> None:
    assert client.delete(f"{USERS}/{number}", headers={"If-Match": "*"}).status_code in (204, 404)


def at_once(tasks: list[Callable[[], Any]]) -> list[Any]:
    with ThreadPoolExecutor(len(tasks)) as pool:
        return [task.result() for task in [pool.submit(task) for task in tasks]]


def test_a_created_user_is_read_back(client: httpx.Client, user: dict[str, Any], new_user: dict[str, Any]) -> None:
    assert user == new_user | {"id": user["id"]}
    assert reads_back(client, user)


def test_users_is_an_alias_of_the_first_version(client: httpx.Client, user: dict[str, Any]) -> None:
    assert client.get(f"/users/{user['id']}").json() == user


def test_the_second_version_shows_times_and_a_profile(client: httpx.Client, user: dict[str, Any]) -> None:
    found = client.get(f"/api/v2/users/{user['id']}").json()
    profile = client.get(f"/api/v2/users/{user['id']}/profile").json()
    assert found == user | {"created_at": profile["member_since"], "updated_at": profile["member_since"]}
    assert (profile["display_name"], profile["initials"]) == ("Ada Lovelace", "AL")


def test_pages_that_are_followed_show_every_user_once(client: httpx.Client) -> None:
    name = f"Page {uuid.uuid4().hex}"
    made = [create(client, {"name": name, "email": f"{uuid.uuid4().hex}@example.com", "age": n}) for n in range(7)]
    seen, path = list[int](), f"/api/v2/users?limit=3&sort=-name&name={name}"
    while path:
        page = client.get(path).json()
        seen += [user["id"] for user in page["items"]]
        path = page["next"]
    for user in made:
        delete(client, user["id"])
    assert seen == sorted((user["id"] for user in made), reverse=True)


@pytest.mark.parametrize(
    ("method", "path", "sent", "status", "kind"),
    [
        ("GET", f"{USERS}/abc", {}, 400, "malformed-path"),
        ("GET", f"{USERS}/2000000000", {}, 404, "user-not-found"),
        ("POST", USERS, {"content": b"{", "headers": {"content-type": "application/json"}}, 400, "malformed-json"),
        ("POST", USERS, {"content": b"a=1"}, 415, "unsupported-media-type"),
        ("POST", USERS, {"json": {"name": "Ada", "email": "no", "age": 36}}, 422, "invalid-fields"),
        ("POST", USERS, {"json": {"name": "a" * 2_000_000}}, 413, "body-too-large"),
        ("PATCH", f"{USERS}/1", {"json": {"age": 1}}, 428, "precondition-required"),
    ],
)
def test_errors_are_problems(
    client: httpx.Client, method: str, path: str, sent: dict[str, Any], status: int, kind: str
) -> None:
    refused = client.request(method, path, **sent)
    assert refused.status_code == status
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.json()["type"] == f"/problems/{kind}"


def test_an_email_is_taken_once(client: httpx.Client, user: dict[str, Any], new_user: dict[str, Any]) -> None:
    again = client.post(USERS, json=new_user | {"email": user["email"].upper()})
    assert (again.status_code, again.json()["type"]) == (409, "/problems/email-taken")


@pytest.mark.parametrize("sent", [None, "", "x.y.z"])
def test_without_a_valid_token_there_is_no_answer(urls: dict[str, str], sent: str | None) -> None:
    with connect(urls["gateway"], sent) as stranger:
        assert stranger.get(f"{USERS}/1").status_code == 401


def test_of_all_who_change_one_state_one_wins(client: httpx.Client, user: dict[str, Any]) -> None:
    path = f"{USERS}/{user['id']}"
    tag = client.get(path).headers["etag"]
    tasks = [
        lambda age=age: client.patch(path, json={"age": age}, headers={"If-Match": tag}).status_code
        for age in range(CLIENTS)
    ]
    assert sorted(at_once(tasks)) == [200] + [412] * (CLIENTS - 1)


def test_no_update_is_lost(urls: dict[str, str], token: str, client: httpx.Client, user: dict[str, Any]) -> None:
    """Let each client add one to the value that it read, until its If-Match holds: the sum is the number of clients."""
    path = f"{USERS}/{user['id']}"
    assert client.patch(path, json={"age": 0}, headers={"If-Match": "*"}).status_code == 200

    def add_one() -> int:
        tries = 0
        with connect(urls["gateway"], token) as own:
            while True:
                tries += 1
                found = own.get(path)
                change = {"age": found.json()["age"] + 1}
                answer = own.patch(path, json=change, headers={"If-Match": found.headers["etag"]})
                if answer.status_code == 200:
                    return tries
                assert answer.status_code == 412

    tries = at_once([add_one] * CLIENTS)
    assert client.get(path).json()["age"] == CLIENTS
    assert sum(tries) > CLIENTS, "nobody met anybody: this proves nothing"


def test_a_key_that_many_send_at_once_makes_one_user(client: httpx.Client, new_user: dict[str, Any]) -> None:
    key = {"Idempotency-Key": uuid.uuid4().hex}
    answers = at_once([lambda: client.post(USERS, json=new_user, headers=key)] * CLIENTS)
    assert {answer.status_code for answer in answers} == {201}
    numbers = {answer.json()["id"] for answer in answers}
    delete(client, min(numbers))
    assert len(numbers) == 1


def test_a_change_that_was_acknowledged_is_read_by_everybody(
    urls: dict[str, str], token: str, client: httpx.Client, user: dict[str, Any]
) -> None:
    path = f"{USERS}/{user['id']}"
    end = 200

    def read() -> list[tuple[int, int]]:
        """Return, for every read, the lowest version that it may show and the version that it showed."""
        seen = list[tuple[int, int]]()
        with connect(urls["gateway"], token) as own:
            while acknowledged[0] < end:
                least = acknowledged[0]
                seen.append((least, version_in(own.get(path))))
        return seen

    def write() -> list[tuple[int, int]]:
        while acknowledged[0] < end:
            answer = client.patch(path, json={"age": acknowledged[0] % 150}, headers={"If-Match": "*"})
            acknowledged[0] = version_in(answer)
        return []

    acknowledged = [1]
    seen = [pair for pairs in at_once([write, *[read] * 8]) for pair in pairs]
    assert len(seen) > end
    assert [pair for pair in seen if pair[1] < pair[0]] == []


def test_every_answer_carries_a_request_id_of_its_own(client: httpx.Client) -> None:
    ids = {client.get(f"{USERS}/1").headers["x-request-id"] for _ in range(3)}
    assert len(ids) == 3


def test_no_token_body_or_secret_is_in_the_logs(
    client: httpx.Client, kubectl: Kubectl, user: dict[str, Any], token: str
) -> None:
    client.post(USERS, json=user)  # refused, and the refusal must not contain it
    logs = "".join(
        kubectl("logs", f"--selector=app.kubernetes.io/name={app}", "--tail=2000")
        for app in ("user-service", "api-gateway")
    )
    assert f"/users/{user['id']}" in logs or '"url":"/api/v1/users"' in logs
    assert user["email"] not in logs
    assert token not in logs
    assert token.rpartition(".")[2] not in logs


def test_the_gateways_health_is_public(client: httpx.Client) -> None:
    assert client.get("/health").status_code == 200


def test_a_user_survives_the_loss_of_every_app_pod_and_of_postgres(
    client: httpx.Client, user: dict[str, Any], new_user: dict[str, Any], kubectl: Kubectl
) -> None:
    kubectl("delete", "pod", "--wait=false", "-l", "app.kubernetes.io/name in (user-service, api-gateway, postgres)")
    kubectl("rollout", "status", "statefulset/postgres", "--timeout=120s")
    kubectl("rollout", "status", "deployment/user-service", "--timeout=120s")
    eventually(lambda: reads_back(client, user), "the user is read back", 120)
    another = create(client, new_user | {"email": f"again-{new_user['email']}"})
    assert reads_back(client, another)
    delete(client, another["id"])
    settle(kubectl)
