import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from servicekit import bodies
from servicekit.asgi import App, Message, Receive, Scope, Send
from servicekit.bodies import Bounded, Head, parse_json
from servicekit.problems import ERRORS_LIMIT, of_validation


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    body = (await receive())["body"] if scope["method"] != "GET" else b""
    scope["route"] = "the route"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": scope["method"].encode() + body})


async def ask(app: App, scope: dict[str, Any], chunks: list[bytes]) -> tuple[int, bytes]:
    sent: list[Message] = []
    waiting = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    waiting.append({"type": "http.request", "body": b"", "more_body": False})

    async def receive() -> Message:
        return waiting.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent[0]["status"], sent[1]["body"]


def post(headers: list[tuple[bytes, bytes]] | None = None) -> dict[str, Any]:
    return {"type": "http", "method": "POST", "headers": headers or []}


async def test_a_body_within_the_limit_reaches_the_app_whole() -> None:
    assert await ask(Bounded(echo, 4), post(), [b"ab", b"cd"]) == (200, b"POSTabcd")


@pytest.mark.parametrize(("headers", "chunks"), [([(b"content-length", b"5")], []), (None, [b"abc", b"de"])])
async def test_a_larger_one_is_refused_whether_it_was_announced_or_not(headers: Any, chunks: list[bytes]) -> None:
    status, body = await ask(Bounded(echo, 4), post(headers), chunks)
    assert status == 413
    assert b"/problems/body-too-large" in body


async def test_head_is_answered_as_get_and_still_known_as_head() -> None:
    scope = post() | {"method": "HEAD"}
    assert await ask(Head(echo), scope, []) == (200, b"GET")
    assert scope["method"] == "HEAD"
    assert scope["route"] == "the route"


async def test_a_body_that_stalls_is_refused_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "CLIENT_S", 0.01)
    sent: list[Message] = []

    async def silence() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Message) -> None:
        sent.append(message)

    async with asyncio.timeout(30):
        await Bounded(echo, 4)(post(), silence, send)
    assert sent[0]["status"] == 408
    assert (b"connection", b"close") in sent[0]["headers"]


async def test_a_client_that_has_left_gets_no_answer_and_the_app_no_request() -> None:
    async def left() -> Message:
        return {"type": "http.disconnect"}

    async def never(*_: object) -> None:
        raise AssertionError

    await Bounded(never, 4)(post(), left, never)


@given(st.lists(st.text(alphabet="abc", min_size=1), min_size=1, max_size=8))
def test_a_name_that_is_there_twice_is_refused_wherever_it_stands(names: list[str]) -> None:
    body = "{" + ",".join(f"{json.dumps(name)}: {index}" for index, name in enumerate(names)) + "}"
    if len(set(names)) == len(names):
        assert parse_json(body.encode()) == {name: index for index, name in enumerate(names)}
    else:
        with pytest.raises(json.JSONDecodeError, match="is there twice"):
            parse_json(body.encode())


@pytest.mark.timeout(60)
def test_the_work_for_a_name_that_is_there_twice_grows_with_the_names_and_not_with_their_square() -> None:
    names = [f"{index:x}" for index in range(400_000)]  # quadratic time would take hours
    body = "{" + ",".join(f'"{name}":0' for name in [*names, names[-1]]) + "}"
    with pytest.raises(json.JSONDecodeError, match="is there twice"):
        parse_json(body.encode())


def test_an_answer_names_so_many_wrong_fields_and_no_more() -> None:
    wrong = [{"loc": ("body", f"f{n}"), "msg": "is not known", "type": "extra_forbidden"} for n in range(8000)]
    assert len(of_validation(wrong).body()["errors"]) == ERRORS_LIMIT
