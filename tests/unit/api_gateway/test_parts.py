from api_gateway import headers, routes
from api_gateway.balancer import RoundRobin
from api_gateway.discovery import Instance, instance

THREE = tuple(Instance(name, "192.0.2.1", 8080) for name in "abc")


def test_each_instance_has_its_turn() -> None:
    balancer = RoundRobin()
    assert [next(balancer.order(THREE)).id for _ in range(6)] == list("abcabc")


def test_every_instance_is_offered_once() -> None:
    assert sorted(i.id for i in RoundRobin().order(THREE)) == list("abc")


def test_no_instance_is_no_offer() -> None:
    assert list(RoundRobin().order(())) == []


def test_a_prefix_ends_where_a_segment_does() -> None:
    assert routes.find("/users") is not None
    assert routes.find("/users/1") is not None
    assert routes.find("/usersandmore") is None
    assert routes.find("/health") is None


def test_an_instance_without_an_address_is_at_its_node() -> None:
    entry = {"Service": {"ID": "a", "Address": "", "Port": 1}, "Node": {"Address": "192.0.2.9"}}
    assert instance(entry) == Instance("a", "192.0.2.9", 1)


def test_hop_by_hop_headers_and_those_that_connection_names_stay_behind() -> None:
    given = [(b"Connection", b"close, X-Secret"), (b"X-Secret", b"1"), (b"TE", b"trailers"), (b"Accept", b"*/*")]
    assert headers.without_hop_by_hop(given) == [(b"accept", b"*/*")]


def test_what_a_client_claims_of_itself_is_not_believed() -> None:
    given = [(b"x-forwarded-for", b"127.0.0.1"), (b"X-Request-ID", b"forged"), (b"host", b"api.myapp.com")]
    sent = dict(headers.upstream(given, "192.0.2.1", b"api.myapp.com", "https", "id", "00-1"))
    assert sent[b"x-forwarded-for"] == b"192.0.2.1"
    assert sent[b"x-request-id"] == b"id"
    assert sent[b"x-forwarded-proto"] == b"https"


def test_a_client_cannot_have_our_headers_dropped_through_connection() -> None:
    given = [(b"connection", b"x-forwarded-for, x-request-id")]
    sent = dict(headers.upstream(given, "192.0.2.1", b"h", "http", "id", "00-1"))
    assert sent[b"x-forwarded-for"] == b"192.0.2.1"
    assert sent[b"x-request-id"] == b"id"
