"""JSON Web Tokens (RFC 7519), verified as RFC 8725 recommends: each key with one algorithm and one issuer, every claim required."""

import json
import time
from hashlib import sha256
from typing import Any

import jwt
from jwt.utils import base64url_decode, base64url_encode

from servicekit.caching import remembered
from servicekit.following import Followed
from servicekit.jwks import Key, Keys, RemoteKeys, parse
from servicekit.problems import INVALID_TOKEN, MISSING_TOKEN, Problem, unavailable
from servicekit.settings import Auth, SettingsError

REQUIRED = ["exp", "iat", "iss", "aud"]
TYPES = ("JWT", "AT+JWT")
"""Accepted media types of tokens: a `typ` without a slash is one of application/ (RFC 7515, section 4.1.9)."""
LEEWAY_S = 5
"""Tolerated difference of clocks in seconds."""
TOKEN_LIMIT_CHARACTERS = 4096
REMEMBERED = 4096
"""Maximum tokens with a cached signature verification."""

Claims = dict[str, Any]


class Verifier:
    """Verifier of our own tokens, with the keys in a file, and of another issuer's, with the keys at its URL.

    Several keys are valid at once, distinguished by `kid`, so that keys rotate without a restart: add the new one everywhere, sign
    with it, remove the old one.

    Args:
        settings: sources of the keys, and the issuer and audience that a token must name.

    Raises:
        SettingsError: the keys cannot be read or are too short.
    """

    def __init__(self, settings: Auth) -> None:
        self.settings = settings
        if settings.required and not settings.keys_file and not settings.jwks.url:
            raise SettingsError("auth.keys_file: is needed where auth.required is true (APP_AUTH_KEYS_FILE)")
        if settings.jwks.issuer and settings.jwks.issuer == settings.issuer:
            raise SettingsError(
                "auth.jwks.issuer: is our own (auth.issuer): keys of one issuer may not sign for another"
            )
        self.own = Followed("auth.keys_file", settings.keys_file, parse) if settings.keys_file else None
        self.remote = RemoteKeys(settings.jwks.url) if settings.jwks.url else None
        self._keys: tuple[Keys, Keys] | None = None
        self._verified: Any = None

    def start(self) -> None:
        """Start to follow the keys of the other issuer, if there is one."""
        if self.remote:
            self.remote.start()

    async def stop(self) -> None:
        """Stop following them."""
        if self.remote:
            await self.remote.stop()

    async def check(self) -> None:
        """Raise if the keys of the other issuer could not be fetched."""
        if self.remote and self.remote.problem:
            raise ConnectionError(self.remote.problem)

    async def authenticate(self, authorization: str | None) -> Claims | None:
        """Return the claims of the token in an Authorization header; None if there is no token and none is required.

        Raises:
            Problem: 401, the token is missing or not valid; 503, the keys of its issuer were never available.
        """
        try:
            return self.claims(authorization)
        except UnknownKeyError as unknown:
            if self.remote and unknown.issuer == self.settings.jwks.issuer:
                if await self.remote.refresh():
                    return self.claims(authorization)
                if not self.remote.keys:
                    raise unavailable("the keys of the token's issuer cannot be fetched") from unknown
            raise

    def claims(self, authorization: str | None) -> Claims | None:
        """Return the claims as `authenticate` does, with the available keys only.

        Raises:
            UnknownKeyError: 401, the key is not among them.
            Problem: 401, for any other reason.
        """
        if not authorization:
            if self.settings.required:
                raise missing()
            return None
        keys = (self.own.content() if self.own else {}), (self.remote.keys if self.remote else {})
        if keys != self._keys:
            self._keys = keys
            self._verified = remembered(REMEMBERED, TOKEN_LIMIT_CHARACTERS + len("Bearer "))(self._verify)
        try:
            claims: Claims = self._verified(authorization)
        except jwt.PyJWTError as error:
            raise invalid(str(error)) from error
        except (ValueError, TypeError, OverflowError, RecursionError) as error:
            raise invalid("the token is malformed") from error
        if claims["exp"] <= time.time() - LEEWAY_S:  # it is cached, and has expired since
            raise invalid("Signature has expired")
        return claims

    def owner(self, claims: Claims | None) -> str:
        """Return the owner of a request, unique over all issuers: subjects are unique within their issuer only (RFC 7519, section 4.1.2).

        Args:
            claims: claims of its verified token; None without a token.
        """
        known = claims or {}
        subject = str(known.get("sub", ""))
        issuer = known.get("iss", self.settings.issuer)
        if issuer == self.settings.issuer:
            return subject
        return sha256(json.dumps([issuer, subject]).encode()).hexdigest()

    def _verify(self, authorization: str) -> Claims:
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer":
            raise invalid("the Authorization header holds no bearer token")
        token = token.strip(" ")
        if len(token) > TOKEN_LIMIT_CHARACTERS:
            raise jwt.DecodeError("the token is too long")
        kid, issuer = key_and_issuer(token)
        key = self._key(kid, issuer)
        claims: Claims = jwt.decode(  # pyright: ignore[reportUnknownMemberType]
            token,
            key.material,
            algorithms=[key.algorithm],
            issuer=issuer,
            audience=self.settings.audience,
            leeway=LEEWAY_S,
            options={"require": REQUIRED},
        )
        if not all(type(claims.get(name, 0)) in (int, float) for name in ("exp", "iat", "nbf")):
            raise jwt.DecodeError("exp, iat and nbf are numbers")
        return claims

    def _key(self, kid: str, issuer: str) -> Key:
        """Return a key of an issuer, from the keys that this issuer may sign with."""
        assert self._keys is not None  # noqa: S101 - set by the caller
        own, remote = self._keys
        issuers = {self.settings.issuer: own, self.settings.jwks.issuer: remote}
        if issuer not in issuers or not issuer:
            raise jwt.InvalidIssuerError("Invalid issuer")
        if kid not in issuers[issuer]:
            raise UnknownKeyError(issuer)
        return issuers[issuer][kid]


class UnknownKeyError(Problem):
    """Problem 401: the token is signed with an unknown key.

    Args:
        issuer: issuer that the token names.
    """

    def __init__(self, issuer: str) -> None:
        refused = invalid("the token is signed by a key that is not known here")
        super().__init__(refused.kind, refused.detail, refused.headers)
        self.issuer = issuer


def key_and_issuer(token: str) -> tuple[str, str]:
    """Return the names of a token's key and issuer, unverified.

    Raises:
        jwt.DecodeError: the token is malformed, or of a kind that is not accepted.
    """
    if not all(canonical(part) for part in token.split(".")):
        raise jwt.DecodeError("the token is not base64url as RFC 7515 has it")
    unverified: Any = jwt.decode_complete(token, options={"verify_signature": False})  # pyright: ignore[reportUnknownMemberType]
    header, issuer = unverified["header"], unverified["payload"].get("iss")
    if "crit" in header:
        raise jwt.DecodeError("the token has critical headers, and none is known here")
    if str(header.get("typ", "JWT")).upper().removeprefix("APPLICATION/") not in TYPES:
        raise jwt.DecodeError("the token is of another type than JWT")
    if not isinstance(header.get("kid"), str) or not isinstance(issuer, str):
        raise jwt.DecodeError("the token names no key or no issuer")
    return header["kid"], issuer


def canonical(part: str) -> bool:
    """Return whether a part of a token has its canonical encoding: no padding, no spare bits (RFC 7515, appendix C)."""
    return part.isascii() and base64url_encode(base64url_decode(part)) == part.encode()


def missing() -> Problem:
    """Return problem 401: the token is missing."""
    return Problem(MISSING_TOKEN, "send Authorization: Bearer <token>", {"WWW-Authenticate": "Bearer"})


def invalid(detail: str) -> Problem:
    """Return problem 401: the token is invalid, with the challenge of RFC 6750."""
    return Problem(INVALID_TOKEN, detail, {"WWW-Authenticate": 'Bearer error="invalid_token"'})
