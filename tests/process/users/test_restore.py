"""Entity tags and cache entries from before a restore of the database."""

from typing import Any

import httpx

from tests.support.backends import Postgres, until


def test_a_tag_names_no_other_state_after_a_restore(
    client: httpx.Client, postgres: Postgres, user: dict[str, Any]
) -> None:
    path = f"/api/v1/users/{user['id']}"
    kept = client.get(path).headers["etag"]
    postgres.dump("kept.dump")
    lost = client.patch(path, json={"age": 1}, headers={"If-Match": kept}).headers["etag"]
    postgres.restore("kept.dump")
    until(lambda: client.get(path).headers.get("etag") == kept, "the restored state is read", 10)
    now = client.patch(path, json={"age": 2}, headers={"If-Match": kept})
    assert now.status_code == 200, "a tag of a state that was restored is good"
    assert client.patch(path, json={"age": 3}, headers={"If-Match": lost}).status_code == 412
    assert client.get(path, headers={"If-None-Match": lost}).json()["age"] == 2
    assert client.get(path, headers={"If-None-Match": now.headers["etag"]}).status_code == 304
