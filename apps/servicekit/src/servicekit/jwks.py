"""Keys that verify tokens: JWK Sets (RFC 7517), from a file or from the URL of another issuer."""

import asyncio
import json
import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import aiohttp
import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from servicekit import background
from servicekit.settings import unique

log = logging.getLogger(__name__)
ALGORITHMS: dict[tuple[str, str | None], str] = {
    ("oct", None): "HS256",
    ("RSA", None): "RS256",
    ("EC", "P-256"): "ES256",
    ("OKP", "Ed25519"): "EdDSA",
}
"""The only algorithm for a key of each type and curve, whatever a token says (RFC 8725, section 3.1)."""
LEAST_SECRET_BYTES = 32
"""Minimum bytes of a secret key, which is no shorter than the hash (RFC 7518, section 3.2)."""
LEAST_RSA_BITS = 2048
"""Minimum bits of an RSA key (RFC 7518, section 3.3)."""
P = 2**255 - 19
SMALL_ORDER = {0, 1, P - 1, P, P + 1} | {
    int.from_bytes(bytes.fromhex(y), "little")
    for y in (
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    )
}
"""All encodings of y of points of order 8 and less (https://eprint.iacr.org/2020/1244, table 6)."""
REFRESH_S = 300.0
LEAST_BETWEEN_S = 10.0
"""Minimum seconds between two fetches for any caller: otherwise tokens with unknown keys could trigger fetches."""
FETCH_TIMEOUT_S = 5.0
SET_LIMIT_BYTES = 256 * 1024


@dataclass(frozen=True)
class Key:
    """A key, and its algorithm."""

    kid: str
    algorithm: str
    material: Any


Keys = dict[str, Key]


def parse(text: str) -> Keys:
    """Return the keys of a set, by `kid`, in its order.

    Raises:
        ValueError: the text is not a JWK Set, the set is empty, two keys have one `kid`, or a key is too short or of an unsupported type; the
            message names the key.
    """
    found = by_kid(map(parsed, members(text)))
    if not found:
        raise ValueError("holds no key")
    return found


def parse_public(text: str) -> Keys:
    """Return the public keys of a set that verify signatures; keys that issuers publish for other purposes are skipped.

    Secret and private keys are skipped too: once published, they are not secret.

    Raises:
        ValueError: the text is not a JWK Set, or the set has no such key, or two with one `kid`.
    """
    found: list[Key] = []
    for member in members(text):
        if signs(member) and member.get("kty") != "oct" and "d" not in member:
            try:
                key = parsed(member)
            except ValueError as error:
                log.warning("A key is passed over", extra={"reason": str(error)})
            else:
                found.append(key)
    if not found:
        raise ValueError("holds no public key for signatures")
    return by_kid(found)


def by_kid(keys: Iterable[Key]) -> Keys:
    """Return keys by `kid`.

    Raises:
        ValueError: two keys have the same `kid`, so a token's key would be ambiguous.
    """
    found: Keys = {}
    for key in keys:
        if key.kid in found:
            raise ValueError(f"holds key {key.kid!r} twice")
        found[key.kid] = key
    return found


def signs(member: dict[str, Any]) -> bool:
    """Return whether a public key is for signatures (RFC 7517, sections 4.2 and 4.3)."""
    operations: Any = member.get("key_ops", ["verify"])
    return member.get("use", "sig") == "sig" and isinstance(operations, list) and "verify" in operations


def members(text: str) -> list[dict[str, Any]]:
    """Return the keys of a set in their JSON form.

    Raises:
        ValueError: the text is not a JWK Set.
    """
    try:
        keys = json.loads(text, object_pairs_hook=unique)["keys"]
        return [dict(key) for key in keys]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError("is not a JWK Set (RFC 7517)") from error


def parsed(member: dict[str, Any]) -> Key:
    """Return a key from its JSON form.

    Raises:
        ValueError: the key cannot be used.
    """
    kid, kind = member.get("kid"), member.get("kty")
    algorithm = ALGORITHMS.get((str(kind), str(member["crv"]) if "crv" in member else None))
    if not isinstance(kid, str) or not kid:
        raise ValueError("holds a key without kid")
    if algorithm is None or member.get("alg", algorithm) != algorithm:
        known = ", ".join(sorted(ALGORITHMS.values()))
        raise ValueError(f"holds key {kid!r} for another algorithm than {known}")
    try:
        material = jwt.PyJWK(member, algorithm).key
    except (jwt.PyJWTError, ValueError, TypeError, KeyError) as error:
        raise ValueError(f"holds key {kid!r}, which is malformed: {error}") from error
    if kind == "oct" and len(material) < LEAST_SECRET_BYTES:
        raise ValueError(f"holds key {kid!r} of less than {LEAST_SECRET_BYTES} bytes")
    if kind == "RSA" and material.key_size < LEAST_RSA_BITS:
        raise ValueError(f"holds key {kid!r} of less than {LEAST_RSA_BITS} bits")
    if kind == "OKP" and small_order(material):
        raise ValueError(f"holds key {kid!r}, by which anything is signed")
    return Key(kid, algorithm, material)


def small_order(key: Any) -> bool:
    """Return whether an Ed25519 key is one of the few for which a signature that fits any message can be made."""
    raw = bytearray((key if isinstance(key, Ed25519PublicKey) else key.public_key()).public_bytes_raw())
    raw[31] &= 0x7F  # the sign bit
    return int.from_bytes(raw, "little") in SMALL_ORDER


class RemoteKeys:
    """Public keys of another issuer; if they cannot be fetched, the last good ones stay.

    Args:
        url: URL of the JWK Set.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.keys: Keys = {}
        self.problem: str | None = "not fetched yet"
        self._fetched_at = -LEAST_BETWEEN_S
        self._fetching: asyncio.Task[None] | None = None
        self._loop: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start to fetch the keys periodically."""
        self._loop = background.start("keys of another issuer", self._follow)

    async def stop(self) -> None:
        """Stop fetching the keys."""
        await background.end(self._loop, self._fetching)

    async def refresh(self) -> bool:
        """Fetch the keys, unless that was done just now; return whether they have changed. Concurrent callers wait for the same fetch."""
        if self._fetching is None:
            if time.monotonic() - self._fetched_at < LEAST_BETWEEN_S:
                return False
            self._fetched_at = time.monotonic()
            self._fetching = background.once("fetch of keys", self._fetch())
        before = self.keys
        try:
            await asyncio.shield(self._fetching)
        finally:
            if self._fetching and self._fetching.done():
                self._fetching = None
        return self.keys is not before

    async def _follow(self) -> None:
        while True:
            await self.refresh()
            await asyncio.sleep(LEAST_BETWEEN_S if self.problem else REFRESH_S)

    async def _fetch(self) -> None:
        try:
            timeout = aiohttp.ClientTimeout(total=FETCH_TIMEOUT_S)
            async with aiohttp.ClientSession(timeout=timeout) as session, session.get(self.url) as answer:
                answer.raise_for_status()
                text = b""
                async for piece in answer.content.iter_any():
                    text += piece
                    if len(text) > SET_LIMIT_BYTES:
                        raise ValueError(f"the JWK Set has more than {SET_LIMIT_BYTES} bytes")  # noqa: TRY301
            keys = parse_public(text.decode())
        except Exception as error:  # noqa: BLE001 - on any error, the last good keys stay
            self.problem = f"{self.url}: {type(error).__name__}: {error}"
            log.warning("Keys cannot be fetched; the last good ones stay", extra={"reason": self.problem})
        else:
            self.problem = None
            if keys.keys() != self.keys.keys():
                log.info("The keys of another issuer have changed", extra={"url": self.url, "kids": list(keys)})
            self.keys = keys
