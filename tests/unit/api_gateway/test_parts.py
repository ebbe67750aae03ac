import json
import time
from pathlib import Path
from typing import Any

import pytest
from api_gateway import headers, paths
from api_gateway.balancer import ConsistentHash, PowerOfTwo, RoundRobin
from api_gateway.discovery import Discovery, Instance
from api_gateway.forwarded import Peers
from api_gateway.resilience import OPEN_S, TRIALS, Breaker, RetryBudget, State
from api_gateway.routes import Route, RouteTable, load
from api_gateway.service import Failure, UpstreamService
from api_gateway.settings import Routing
from api_gateway.upstream import EJECTION_S, FAILURES_TO_EJECT, SLOW_START_S, Upstream
from servicekit.settings import Registry, SettingsError

THREE = tuple(Instance(name, "192.0.2.1", 8080) for name in "abc")
TABLE = RouteTable(tuple(Route(prefix=prefix, service="s") for prefix in ("/users", "/api/v1/users", "/api")))


def upstreams() -> tuple[Upstream, ...]:
    return tuple(Upstream(i, warm=True) for i in THREE)


async def test_round_robin_gives_each_its_turn() -> None:
    choose, three = RoundRobin(), upstreams()
    assert [choose(three, b"", 0).instance.id for _ in range(6)] == list("abcabc")


async def test_the_less_busy_of_two_is_chosen() -> None:
    choose, three = PowerOfTwo(), upstreams()
    three[0]._waiting = 5  # pyright: ignore[reportPrivateUsage]
    assert all(choose(three, b"", 0) is not three[0] for _ in range(50))


async def test_a_key_keeps_its_instance_when_another_one_leaves() -> None:
    choose, three = ConsistentHash(), upstreams()
    keys = [str(n).encode() for n in range(200)]
    before = {key: choose(three, key, 0) for key in keys}
    assert set(before.values()) == set(three)
    assert all(choose(three[:2], key, 0) is before[key] for key in keys if before[key] is not three[2])


async def test_a_new_instance_gets_its_share_little_by_little() -> None:
    new = Upstream(THREE[0], warm=False)
    now = new.loop.time()
    assert [round(new.weight(now + SLOW_START_S * part), 1) for part in (0, 0.5, 1)] == [0.1, 0.5, 1.0]


async def test_an_instance_that_fails_again_and_again_rests_for_longer_and_longer() -> None:
    one = Upstream(THREE[0], warm=True)
    for now, rest in ((0.0, EJECTION_S), (100.0, 2 * EJECTION_S)):
        assert [one.failed(now, may_eject=True) for _ in range(FAILURES_TO_EJECT)] == [False] * 4 + [True]
        assert one.ejected(now + rest - 1)
        assert not one.ejected(now + rest)


async def test_never_more_than_half_of_the_instances_rest() -> None:
    service = UpstreamService("s")
    service.set_instances(THREE)
    for upstream in service.upstreams:
        for _ in range(FAILURES_TO_EJECT):
            service.failed(upstream, Failure("status", "status 500", "id", answered=True), 0.0)
    assert service.ejected() <= 1


async def test_the_last_instance_is_tried_however_it_fails() -> None:
    service = UpstreamService("s")
    service.set_instances(THREE[:1])
    for _ in range(20):
        service.failed(service.upstreams[0], Failure("Broken", "closed", "id", answered=True), 0.0)
    assert service.choose("least_busy", b"", (), 0.0) is service.upstreams[0]


async def test_an_instance_that_stays_keeps_what_is_known_of_it() -> None:
    service = UpstreamService("s")
    service.set_instances(THREE[:2])
    kept = service.upstreams[1]
    service.set_instances(THREE[1:])
    assert service.upstreams[0] is kept


async def test_no_instance_is_tried_twice() -> None:
    service = UpstreamService("s")
    service.set_instances(THREE)
    assert service.choose("round_robin", b"", service.upstreams, 0.0) is None


def test_retries_are_a_fifth_of_the_requests_and_ten_a_second() -> None:
    budget = RetryBudget(0.0)
    assert sum(budget.spend(0.0) for _ in range(1000)) == 100
    for _ in range(50):
        budget.earn()
    assert sum(budget.spend(0.0) for _ in range(1000)) in (9, 10)
    assert sum(budget.spend(1.0) for _ in range(1000)) in (10, 11)


def test_a_breaker_opens_tries_and_closes() -> None:
    breaker = Breaker(0.0)
    for _ in range(20):
        breaker.record(1.0, failed=True)
    assert breaker.state is State.OPEN
    assert not breaker.allows(2.0)
    assert [breaker.allows(1.0 + OPEN_S) for _ in range(5)] == [True] * TRIALS + [False] * 2
    for _ in range(TRIALS):
        breaker.record(7.0, failed=False)
    assert breaker.state is State.CLOSED


def test_a_breaker_opens_again_when_a_trial_fails() -> None:
    breaker = Breaker(0.0)
    for _ in range(20):
        breaker.record(1.0, failed=True)
    assert breaker.allows(1.0 + OPEN_S)
    breaker.record(7.0, failed=True)
    assert not breaker.allows(8.0)


def test_a_few_failures_open_no_breaker() -> None:
    breaker = Breaker(0.0)
    for n in range(100):
        breaker.record(1.0, failed=n % 3 == 0)
    assert breaker.state is State.CLOSED


@pytest.mark.parametrize(
    ("path", "prefix"),
    [
        ("/users", "/users"),
        ("/users/1", "/users"),
        ("/usersandmore", None),
        ("/health", None),
        ("/api/v1/users/1/x", "/api/v1/users"),
        ("/api/v2/users", "/api"),
        ("/", None),
        ("", None),
    ],
)
def test_the_longest_prefix_wins_and_ends_where_a_segment_does(path: str, prefix: str | None) -> None:
    found = TABLE.find(path)
    assert (found and found.prefix) == prefix


@pytest.mark.parametrize("start", ["", "/health", "/users", "/api/v1/users", "/api/v1/users/1"])
@pytest.mark.parametrize("rest", ["/", "/a", "/users", "a/"])
def test_a_long_path_takes_no_longer_to_find_than_a_short_one(start: str, rest: str) -> None:
    path = start + rest * 60_000
    before_s = time.process_time()
    found = TABLE.find(path)
    assert time.process_time() - before_s < 0.1
    matching = [route.prefix for route in TABLE.routes if path.startswith(route.prefix + "/")]
    assert (found and found.prefix) == max(matching, key=len, default=None)


@pytest.mark.parametrize(
    ("routes", "said"),
    [
        ([{"prefix": "users", "service": "s"}], "routes.0.prefix"),
        ([{"prefix": "/users", "service": "s", "tiemout_s": 1}], "tiemout_s"),
        ([{"prefix": "/users", "service": "s", "methods": ["BREW"]}], "methods"),
        ([{"prefix": "/users", "service": "s"}] * 2, "more than one route for /users"),
        ([], "routes"),
    ],
)
def test_a_wrong_routes_file_is_refused_with_the_reason(tmp_path: Path, routes: list[object], said: str) -> None:
    file = tmp_path / "routes.json"
    file.write_text(json.dumps({"routes": routes}))
    with pytest.raises(SettingsError, match=said):
        load(file)


@pytest.mark.parametrize(
    ("methods", "taken"),
    [(["GET"], {"GET", "HEAD"}), (["POST"], {"POST"}), (["GET", "HEAD", "PUT"], {"GET", "HEAD", "PUT"})],
)
def test_a_route_that_takes_get_takes_head(methods: list[str], taken: set[str]) -> None:
    assert Route.model_validate({"prefix": "/s", "service": "s", "methods": methods}).methods == taken


def test_a_routes_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"nothing\.json cannot be read"):
        load(tmp_path / "nothing.json")


@pytest.mark.parametrize("path", [b"/users", b"/users/1", b"/users/%C3%A9", b"/a.b/~c", b"/.well-known/x"])
def test_a_plain_path_passes(path: bytes) -> None:
    assert paths.plain(path)


@pytest.mark.parametrize(
    "path",
    [
        b"/users/%2fadmin", b"/users%2F1", b"/users/..", b"/users/../admin", b"/users/./1", b"/users//1", b"//users",
        b"/users/%2e%2e/admin", b"/users\\1", b"/users/%5cadmin", b"/users/%00", b"/users/%252e", b"/users;a=b/1",
        b"/users/..;/admin", b"users", b"", b"/users/%zz", b"/users/%4", b"/users/\xe9", b"/users/a b",
    ],
)  # fmt: skip
def test_a_path_that_can_be_read_in_two_ways_is_refused(path: bytes) -> None:
    assert not paths.plain(path)


def test_an_instance_without_an_address_is_at_its_node() -> None:
    discovery = Discovery(Registry(address="127.0.0.1:1"), "s")
    entry: dict[str, Any] = {
        "Service": {"ID": "a", "Address": "", "Port": 1},
        "Node": {"Address": "192.0.2.9"},
        "Checks": [],
    }
    discovery.take([entry])
    assert discovery.instances == (Instance("a", "192.0.2.9", 1),)


def sent(given: headers.Headers, ours: headers.Headers) -> bytes:
    return b"".join(headers.upstream(given, ours))


def test_hop_by_hop_headers_and_those_that_connection_names_stay_behind() -> None:
    given = [(b"connection", b"close, X-Secret"), (b"x-secret", b"1"), (b"te", b"trailers"), (b"accept", b"*/*")]
    assert b"".join(headers.upstream(given, [], headers.named_in(given[0][1]))) == b"accept: */*\r\n"
    assert headers.downstream([*given, (b"date", b"now")]) == [(b"accept", b"*/*")]


@pytest.mark.parametrize(
    "name", [b"content-length", b"set-cookie", b"cache-control", b"content-type", b"www-authenticate"]
)
def test_an_instance_cannot_take_back_by_connection_what_it_says_to_all(name: bytes) -> None:
    passed = headers.downstream([(b"connection", b"close, " + name), (name, b"5")], length=5)
    assert set(passed) == {(name, b"5"), (b"content-length", b"5")}


def test_what_a_client_claims_of_itself_is_not_believed() -> None:
    given = [(b"x-forwarded-for", b"127.0.0.1"), (b"x-request-id", b"forged"), (b"forwarded", b"for=1")]
    assert sent(given, [(b"x-forwarded-for", b"192.0.2.1")]) == b"x-forwarded-for: 192.0.2.1\r\n"


def test_a_client_cannot_have_our_headers_dropped_through_connection() -> None:
    given = [(b"connection", b"x-forwarded-for, x-request-id")]
    assert sent(given, [(b"x-forwarded-for", b"192.0.2.1")]) == b"x-forwarded-for: 192.0.2.1\r\n"


@pytest.mark.parametrize(
    ("peer", "said", "client", "chain"),
    [
        ("198.51.100.7", b"10.0.0.1", "198.51.100.7", b"198.51.100.7"),
        ("10.0.0.1", b"198.51.100.7", "198.51.100.7", b"198.51.100.7, 10.0.0.1"),
        ("10.0.0.1", b"1.2.3.4, 198.51.100.7, 10.0.0.2", "198.51.100.7", b"198.51.100.7, 10.0.0.2, 10.0.0.1"),
        ("10.0.0.1", b"rubbish", "10.0.0.1", b"10.0.0.1"),
        ("10.0.0.1", b"198.51.100.7, rubbish", "10.0.0.1", b"10.0.0.1"),
        ("10.0.0.1", b"9" * 900_000, "10.0.0.1", b"10.0.0.1"),
        ("10.0.0.1", b"", "10.0.0.1", b"10.0.0.1"),
        ("10.0.0.1", b"198.51.100.7:51000", "198.51.100.7", b"198.51.100.7, 10.0.0.1"),
        ("10.0.0.1", b"[2001:db8::7]:443, 10.0.0.2:80", "2001:db8::7", b"2001:db8::7, 10.0.0.2, 10.0.0.1"),
        ("10.0.0.1", b"[2001:db8::7]", "2001:db8::7", b"2001:db8::7, 10.0.0.1"),
        ("10.0.0.1", b"2001:db8::7:80", "2001:db8::7:80", b"2001:db8::7:80, 10.0.0.1"),
    ],
)
def test_only_a_trusted_peer_names_the_client(peer: str, said: bytes, client: str, chain: bytes) -> None:
    peers = Peers(Routing(trusted="10.0.0.0/24").networks())
    scope = {"client": (peer, 1), "headers": [(b"x-forwarded-for", said)], "scheme": "http"}
    assert peers.client(scope)[:2] == (client, chain)
