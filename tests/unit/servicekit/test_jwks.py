import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt.algorithms import OKPAlgorithm
from servicekit import jwks
from servicekit.jwks import RemoteKeys, parse, parse_public
from servicekit.problems import Problem
from servicekit.settings import Auth, Jwks
from servicekit.tokens import Verifier

ISSUER = "https://other.example"
KEY, NEXT = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()


def public(kid: str, key: Ed25519PrivateKey = KEY, **other: Any) -> dict[str, Any]:
    return OKPAlgorithm.to_jwk(key.public_key(), as_dict=True) | {"kid": kid} | other


def written(*members: Any) -> bytes:
    return json.dumps({"keys": members}).encode()


def signed(key: Ed25519PrivateKey, kid: str) -> str:
    now = int(time.time())
    claims = {"iss": ISSUER, "aud": "estate", "sub": "ada", "iat": now, "exp": now + 60}
    return f"Bearer {jwt.encode(claims, key, 'EdDSA', {'kid': kid})}"  # pyright: ignore[reportUnknownMemberType]


@dataclass
class Issuer:
    """Another issuer, and the answer of its URL."""

    url: str = ""
    status: int = 200
    body: bytes = field(default_factory=lambda: written(public("first")))
    fetches: int = 0
    hangs: bool = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        self.fetches += 1
        if self.hangs:
            await reader.read()
        writer.write(b"HTTP/1.1 %d X\r\nconnection: close\r\n\r\n%b" % (self.status, self.body))
        writer.close()


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    issuer = Issuer()
    async with await asyncio.start_server(issuer.serve, "127.0.0.1", 0) as server:
        issuer.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/jwks.json"
        yield issuer


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Allow fetches without a pause between them."""
    monkeypatch.setattr(jwks, "LEAST_BETWEEN_S", 0.0)


def verifier_of(issuer: Issuer) -> Verifier:
    return Verifier(Auth(jwks=Jwks(url=issuer.url, issuer=ISSUER)))


async def test_keys_are_fetched_once_for_many_tokens(issuer: Issuer) -> None:
    verifier = verifier_of(issuer)
    for _ in range(20):
        assert await verifier.authenticate(signed(KEY, "first"))
    assert issuer.fetches == 1


async def test_who_asks_meanwhile_waits_for_the_same_fetch(issuer: Issuer) -> None:
    remote = RemoteKeys(issuer.url)
    assert await asyncio.gather(*(remote.refresh() for _ in range(20))) == [True] * 20
    assert issuer.fetches == 1


async def test_unknown_keys_make_no_fetch_so_soon_after_the_last(issuer: Issuer) -> None:
    verifier = verifier_of(issuer)
    for number in range(20):
        with pytest.raises(Problem, match="not known here"):
            await verifier.authenticate(signed(NEXT, f"unknown-{number}"))
    assert issuer.fetches == 1


@pytest.mark.usefixtures("at_once")
async def test_a_token_with_a_key_that_is_new_makes_them_be_fetched_again(issuer: Issuer) -> None:
    verifier = verifier_of(issuer)
    assert await verifier.authenticate(signed(KEY, "first"))
    issuer.body = written(public("next", NEXT))
    assert await verifier.authenticate(signed(NEXT, "next"))
    assert issuer.fetches == 2
    with pytest.raises(Problem):
        await verifier.authenticate(signed(KEY, "first"))


@pytest.mark.usefixtures("at_once")
async def test_a_token_of_an_unknown_issuer_makes_no_fetch(issuer: Issuer) -> None:
    claims = {"iss": "https://nobody.example", "aud": "estate", "iat": 0, "exp": 2**40}
    token = jwt.encode(claims, KEY, "EdDSA", {"kid": "first"})  # pyright: ignore[reportUnknownMemberType]
    with pytest.raises(Problem):
        await verifier_of(issuer).authenticate(f"Bearer {token}")
    assert issuer.fetches == 0


FAILURES = {
    "an error": (500, written(public("next", NEXT))),
    "nothing": (200, b""),
    "no JSON": (200, b"<html>"),
    "no UTF-8": (200, b"\xff\xfe"),
    "no set": (200, b"[]"),
    "no keys": (200, written()),
    "keys of no use": (200, written(public("next", NEXT, use="enc"))),
    "100,000 levels": (200, b'{"keys":' + b"[" * 100_000),
    "too much": (200, written(public("next", NEXT), {"x": "x" * jwks.SET_LIMIT_BYTES})),
}


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize(("status", "body"), FAILURES.values(), ids=FAILURES.keys())
async def test_the_last_good_keys_are_kept_when_a_fetch_fails(issuer: Issuer, status: int, body: bytes) -> None:
    verifier = verifier_of(issuer)
    assert await verifier.authenticate(signed(KEY, "first"))
    issuer.status, issuer.body = status, body
    with pytest.raises(Problem) as refused:
        await verifier.authenticate(signed(NEXT, "next"))
    assert refused.value.kind.status == 401
    assert issuer.fetches == 2
    assert await verifier.authenticate(signed(KEY, "first"))
    with pytest.raises(ConnectionError, match=issuer.url):
        await verifier.check()


@pytest.mark.usefixtures("at_once")
async def test_a_fetch_that_hangs_is_given_up(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jwks, "FETCH_TIMEOUT_S", 0.2)
    issuer.hangs = True
    remote = RemoteKeys(issuer.url)
    async with asyncio.timeout(5):
        assert not await remote.refresh()
    assert "TimeoutError" in (remote.problem or "")


async def test_tokens_are_503_while_keys_were_never_there(issuer: Issuer) -> None:
    issuer.status = 500
    with pytest.raises(Problem) as refused:
        await verifier_of(issuer).authenticate(signed(KEY, "first"))
    assert refused.value.kind.status == 503


@pytest.mark.usefixtures("at_once")
async def test_keys_are_followed_past_a_fetch_that_fails(issuer: Issuer) -> None:
    issuer.body = b"[" * 100_000
    remote = RemoteKeys(issuer.url)
    remote.start()
    try:
        async with asyncio.timeout(10):
            while issuer.fetches < 3:  # noqa: ASYNC110 - the issuer has no event for it
                await asyncio.sleep(0.01)
            issuer.body = written(public("first"))
            while not remote.keys:  # noqa: ASYNC110 - and neither have the keys
                await asyncio.sleep(0.01)
    finally:
        await remote.stop()
    assert remote.problem is None


ODD = {
    "no kid": {name: value for name, value in public("x").items() if name != "kid"},
    "a kid that is a number": public("x") | {"kid": 1},
    "a curve that is a list": public("x", crv=["Ed25519"]),
    "a kind that is a dict": public("x", kty={}),
    "operations that are a number": public("x", key_ops=1),
    "operations that are null": public("x", key_ops=None),
    "operations that are a word": public("x", key_ops="verify"),
    "another operation": public("x", key_ops=["deriveKey"]),
    "another use": public("x", use="enc"),
    "another algorithm": public("x", alg="HS256"),
    "coordinates of a number": public("x", x=1),
    "coordinates too short": public("x", x="AA"),
    "a secret": {"kty": "oct", "kid": "x", "k": "A" * 43},
    "a private key": OKPAlgorithm.to_jwk(KEY, as_dict=True) | {"kid": "x"},
    "an RSA key without an exponent": {"kty": "RSA", "kid": "x", "n": "AQAB"},
    "a point off its curve": {"kty": "EC", "crv": "P-256", "kid": "x", "x": "A" * 43, "y": "A" * 43},
}


@pytest.mark.parametrize("member", ODD.values(), ids=ODD.keys())
def test_a_key_that_cannot_be_used_is_passed_over(member: dict[str, Any]) -> None:
    assert list(parse_public(written(member, public("good")).decode())) == ["good"]


@pytest.mark.parametrize("read", [parse, parse_public])
@pytest.mark.parametrize(
    "text", ["", "null", "[]", "{}", '{"keys":1}', '{"keys":[null]}', "[" * 100_000, '{"a":' * 50_000]
)
def test_what_is_no_set_is_said_to_be_none(read: Any, text: str) -> None:
    with pytest.raises(ValueError, match="is not a JWK Set"):
        read(text)
