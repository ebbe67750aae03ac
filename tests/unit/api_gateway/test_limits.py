import asyncio
import re
from collections import Counter
from collections.abc import AsyncGenerator
from types import SimpleNamespace
from typing import Any

import fakeredis
import pytest
from api_gateway import limits as module
from api_gateway.limits import PREFIX, RateLimits
from api_gateway.routes import RateLimit
from hypothesis import given, settings
from hypothesis import strategies as st
from servicekit.problems import Problem
from servicekit.settings import Cache

FIVE = RateLimit(requests=5, per_s=60)
START = 60.0 * 28_000_000
"""Time at which a window begins."""


class Clock:
    """A clock that a test advances."""

    def __init__(self) -> None:
        self.now = START

    def time(self) -> float:
        return self.now


class Replica(RateLimits):
    """A gateway's counts on a Redis in this process; the test triggers their exchange."""

    def __init__(self, server: fakeredis.FakeServer) -> None:
        super().__init__(Cache())
        self._redis: Any = fakeredis.FakeAsyncRedis(server=server)

    async def exchange(self) -> bool:
        return await self._exchange()

    async def lose(self, when: str) -> None:
        """Exchange counts, and lose the exchange before or after Redis has executed it."""
        redis = self._redis

        def lossy(*, transaction: bool) -> Lossy:
            return Lossy(redis.pipeline(transaction=transaction), when)

        self._redis = SimpleNamespace(pipeline=lossy)
        await self._exchange()
        self._redis = redis

    def seen(self, client: str) -> int:
        """Return the number of requests of a client that this replica knows of."""
        window = self._windows.get(f"/users:60:{client}")
        return int(window.used(START)) if window else 0

    def changed(self) -> None:
        """Send every count again, as one more request of each client would."""
        self._unsent.update(self._windows)

    @property
    def size(self) -> int:
        return len(self._windows) + len(self._unsent)


def taken(replica: RateLimits, times: int, client: str = "ada", limit: RateLimit = FIVE, route: str = "/users") -> int:
    """Return the number of requests that the limit lets through."""
    let_through = 0
    for _ in range(times):
        try:
            replica.take(route, limit, client)
        except Problem:
            pass
        else:
            let_through += 1
    return let_through


def reported(replica: RateLimits, limit: RateLimit = FIVE) -> dict[str, str]:
    """Return the rate-limit headers of one more request."""
    try:
        return {name.decode(): value.decode() for name, value in replica.take("/users", limit, "ada")}
    except Problem as refused:
        if refused.kind.status != 429:
            raise
        return {name.lower(): value for name, value in refused.headers.items()}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def server() -> fakeredis.FakeServer:
    return fakeredis.FakeServer()


@pytest.fixture
async def replicas(server: fakeredis.FakeServer, clock: Clock) -> AsyncGenerator[tuple[Replica, Replica]]:
    assert clock.now == START
    both = Replica(server), Replica(server)
    yield both
    for replica in both:
        await replica.stop()


async def test_one_replica_lets_through_as_many_as_the_limit_says(replicas: tuple[Replica, Replica]) -> None:
    assert taken(replicas[0], 20) == 5


async def test_two_replicas_share_one_limit(replicas: tuple[Replica, Replica]) -> None:
    first, second = replicas
    assert taken(first, 3) == 3
    await first.exchange()
    assert taken(second, 1) == 1
    await second.exchange()
    assert taken(second, 20) == 1


async def test_counts_reach_the_others_by_themselves(
    replicas: tuple[Replica, Replica], server: fakeredis.FakeServer
) -> None:
    await replicas[0].start()
    replicas[0].take("/users", FIVE, "ada")
    redis: Any = fakeredis.FakeAsyncRedis(server=server)
    key = f"{PREFIX}:/users:60:ada:{int(START // 60)}"
    while not (counts := await redis.hvals(key)):  # noqa: ASYNC110 - until pytest's time limit
        await asyncio.sleep(0)  # Redis in this process answers without yielding to other tasks
    assert counts == [b"1"]
    assert 60 < await redis.ttl(key) <= 120
    await redis.aclose()


async def test_clients_and_routes_are_counted_apart(replicas: tuple[Replica, Replica]) -> None:
    assert taken(replicas[0], 6) == 5
    assert taken(replicas[0], 6, client="bob") == 5
    assert taken(replicas[0], 6, route="/news") == 5


async def test_while_redis_is_away_each_replica_counts_alone(
    replicas: tuple[Replica, Replica], server: fakeredis.FakeServer
) -> None:
    server.connected = False
    for replica in replicas:
        assert taken(replica, 4) == 4
        assert not await replica.exchange()
        assert taken(replica, 4) == 1


async def test_counts_made_without_redis_are_shared_once_it_is_back(
    replicas: tuple[Replica, Replica], server: fakeredis.FakeServer
) -> None:
    first, second = replicas
    server.connected = False
    taken(first, 4)
    await first.exchange()
    server.connected = True
    assert await first.exchange()
    assert taken(second, 1) == 1
    await second.exchange()
    assert taken(second, 1) == 0


async def test_a_redis_that_lost_its_state_gives_no_request_back(
    replicas: tuple[Replica, Replica], server: fakeredis.FakeServer
) -> None:
    first, _ = replicas
    taken(first, 4)
    await first.exchange()
    redis: Any = fakeredis.FakeAsyncRedis(server=server)
    await redis.flushall()
    assert taken(first, 1) == 1
    await first.exchange()
    assert taken(first, 1) == 0
    await redis.aclose()


@pytest.mark.parametrize("behind", [0, 1])
async def test_rubbish_in_redis_costs_no_other_client_anything(
    replicas: tuple[Replica, Replica], server: fakeredis.FakeServer, behind: int
) -> None:
    first, second = replicas
    redis: Any = fakeredis.FakeAsyncRedis(server=server)
    await redis.set(f"{PREFIX}:/users:60:ada:{int(START // 60) - behind}", "rubbish")
    taken(first, 4)
    taken(first, 4, client="bob")
    for _ in range(3):
        assert await first.exchange()
    for client in ("ada", "bob"):
        assert taken(second, 1, client=client) == 1
        await second.exchange()
        assert taken(second, 1, client=client) == 0
    await redis.aclose()


async def test_a_client_that_is_no_utf8_keeps_no_other_from_being_counted(replicas: tuple[Replica, Replica]) -> None:
    first, second = replicas
    for client in ("\ud800", "bob"):
        taken(first, 4, client=client)
    assert await first.exchange()
    for client in ("\ud800", "bob"):
        assert taken(second, 1, client=client) == 1
    await second.exchange()
    for client in ("\ud800", "bob"):
        assert taken(second, 1, client=client) == 0


async def test_a_client_who_was_forgotten_and_returns_is_still_counted(
    replicas: tuple[Replica, Replica], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REMEMBERED", 1)
    first, _ = replicas
    taken(first, 4)
    await first.exchange()
    taken(first, 1, client="bob")
    assert taken(first, 1) == 1
    await first.exchange()
    assert taken(first, 1) == 0


class Lossy:
    """A pipeline whose exchange is lost, before or after Redis has executed it."""

    def __init__(self, pipeline: Any, loss: str) -> None:
        self._pipeline, self._loss = pipeline, loss

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pipeline, name)

    async def execute(self, **terms: Any) -> Any:
        if self._loss == "after":
            await self._pipeline.execute(**terms)
        raise TimeoutError


EVENTS = st.one_of(
    st.tuples(st.just("take"), st.integers(0, 1), st.sampled_from("ab")),
    st.tuples(st.sampled_from(["exchange", "before", "after"]), st.integers(0, 1), st.just("")),
    st.tuples(st.sampled_from(["restart", "string", "field"]), st.just(0), st.sampled_from("ab")),
)
MANY = RateLimit(requests=1000, per_s=60)


async def happen(event: tuple[str, int, str], replicas: tuple[Replica, Replica], redis: Any) -> None:
    """Apply an event of the kind that EVENTS draws."""
    kind, at, client = event
    key = f"{PREFIX}:/users:60:{client}:{int(START // 60)}"
    if kind == "take":
        taken(replicas[at], 1, client, MANY)
    elif kind == "exchange":
        await replicas[at].exchange()
    elif kind == "restart":
        await redis.flushall()
    elif kind == "string":
        await redis.set(key, "7")
    elif kind == "field":
        if await redis.type(key) != b"string":
            await redis.hset(key, "rubbish", "-1e3")
    else:
        await replicas[at].lose(kind)


@given(events=st.lists(EVENTS, max_size=30))
@settings(max_examples=200, deadline=None)
def test_whatever_happens_to_exchanges_no_request_is_counted_twice_and_in_the_end_each_is(
    events: list[tuple[str, int, str]],
) -> None:
    async def run() -> None:
        server = fakeredis.FakeServer()
        replicas, redis = (Replica(server), Replica(server)), fakeredis.FakeAsyncRedis(server=server)
        counted: Counter[str] = Counter()
        last = [("take", at, client) for at in (0, 1) for client in "ab"]
        for event in [*events, *last]:
            await happen(event, replicas, redis)
            counted[event[2]] += event[0] == "take"
            assert all(replica.seen(client) <= counted[client] for replica in replicas for client in "ab")
        for _ in range(3):
            for replica in replicas:
                replica.changed()
                await replica.exchange()
        assert all(replica.seen(client) == counted[client] for replica in replicas for client in "ab")
        for each in (*replicas, redis):
            await (each.stop() if isinstance(each, Replica) else each.aclose())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "time", Clock())
        asyncio.run(run())


async def test_the_window_slides(replicas: tuple[Replica, Replica], clock: Clock) -> None:
    ten = RateLimit(requests=10, per_s=60)
    clock.now = START + 59
    assert taken(replicas[0], 20, limit=ten) == 10
    clock.now = START + 60 + 15  # three quarters of those ten are within the last 60 s
    assert taken(replicas[0], 20, limit=ten) == 2
    clock.now = START + 2 * 60 + 59  # next to nothing of those two is
    assert taken(replicas[0], 20, limit=ten) == 9


async def test_another_replica_knows_the_window_before(replicas: tuple[Replica, Replica], clock: Clock) -> None:
    first, second = replicas
    clock.now = START + 59
    taken(first, 5)
    await first.exchange()
    clock.now = START + 61
    assert taken(second, 1) == 1
    await second.exchange()
    assert taken(second, 1) == 0


@pytest.mark.parametrize("at_s", [0, 20, 59])
@pytest.mark.parametrize("requests", [1, 2, 5, 100])
async def test_a_client_passes_after_its_retry_after_and_no_sooner(
    replicas: tuple[Replica, Replica], clock: Clock, at_s: int, requests: int
) -> None:
    limit = RateLimit(requests=requests, per_s=60)
    clock.now = START + at_s
    taken(replicas[0], requests, limit=limit)
    for _ in range(3):
        wait_s = int(reported(replicas[0], limit)["retry-after"])
        clock.now += wait_s - 1.001
        assert taken(replicas[0], 1, limit=limit) == 0
        clock.now += 1.002
        assert taken(replicas[0], requests, limit=limit) >= 1


async def test_headers_say_where_the_client_stands(replicas: tuple[Replica, Replica], clock: Clock) -> None:
    clock.now = START + 20.5
    assert reported(replicas[0]) == {"ratelimit": '"/users";r=4;t=40', "ratelimit-policy": '"/users";q=5;w=60'}
    taken(replicas[0], 4)
    refused = reported(replicas[0])
    assert refused["ratelimit-policy"] == '"/users";q=5;w=60'
    assert refused["ratelimit"] == f'"/users";r=0;t={refused["retry-after"]}'
    assert re.fullmatch(r"[1-9]\d*", refused["retry-after"])


async def test_a_limit_that_has_changed_holds_at_once(replicas: tuple[Replica, Replica]) -> None:
    assert taken(replicas[0], 5) == 5
    assert taken(replicas[0], 5, limit=RateLimit(requests=7, per_s=60)) == 2
    assert taken(replicas[0], 5, limit=RateLimit(requests=6, per_s=60)) == 0


@pytest.mark.parametrize("connected", [True, False])
async def test_however_many_clients_ask_what_is_remembered_is_bounded(
    replicas: tuple[Replica, Replica], server: fakeredis.FakeServer, monkeypatch: pytest.MonkeyPatch, *, connected: bool
) -> None:
    monkeypatch.setattr(module, "REMEMBERED", 100)
    server.connected = connected
    for number in range(1000):
        taken(replicas[0], 1, client=f"client {number}")
        taken(replicas[0], 1)  # sends requests all the while
        if number % 150 == 0:
            await replicas[0].exchange()
    assert replicas[0].size <= 2 * 100
    assert taken(replicas[0], 1) == 0, "who asks all the while is not forgotten"


async def test_many_counts_are_exchanged_piece_by_piece(
    replicas: tuple[Replica, Replica], server: fakeredis.FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "AT_ONCE", 10)
    for number in range(25):
        taken(replicas[0], 1, client=f"client {number}")
    redis: Any = fakeredis.FakeAsyncRedis(server=server)
    for known in (10, 20, 25):
        await replicas[0].exchange()
        assert await redis.dbsize() == known
    await redis.aclose()
