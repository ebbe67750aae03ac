"""JSON Web Tokens (RFC 7519), verified as RFC 8725 wants it: fixed algorithm, every claim required, keys long enough."""

import json
import logging
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

import jwt
from jwt.utils import base64url_decode

from servicekit.problems import INVALID_TOKEN, MISSING_TOKEN, Problem
from servicekit.settings import Auth, SettingsError

log = logging.getLogger(__name__)
ALGORITHM = "HS256"
REQUIRED = ["exp", "iat", "iss", "aud"]
LEEWAY_S = 5
"""By how much clocks may differ."""
LEAST_KEY_BYTES = 32
"""RFC 7518, section 3.2: a key is not shorter than the hash."""
LOOK_EVERY_S = 2.0
"""How often the file of keys is looked at."""
REMEMBERED = 4096
"""Tokens whose signature need not be computed again."""

Claims = dict[str, Any]


class Verifier:
    """Verifies tokens by the keys in a JWK Set (RFC 7517), which is read again when its file changes.

    Several keys are valid at once, told apart by `kid`, so that keys rotate without a restart: add the new one everywhere, sign
    with it, take the old one away.

    Args:
        settings: where the keys are, and which issuer and audience a token must name.

    Raises:
        SettingsError: the keys cannot be read or are too short.
    """

    def __init__(self, settings: Auth) -> None:
        self.settings = settings
        self._looked_at = time.monotonic()
        self._changed_at = 0
        if settings.required and not settings.keys_file:
            raise SettingsError("auth.keys_file: is needed where auth.required is true (APP_AUTH_KEYS_FILE)")
        self._verified = self._cached(self._read()) if settings.keys_file else None

    def claims(self, authorization: str | None) -> Claims | None:
        """Claims of the token in an Authorization header; None where there is none and none is needed.

        Raises:
            Problem: 401, the token is missing or not valid.
        """
        if not authorization:
            if self.settings.required:
                raise Problem(MISSING_TOKEN, "send Authorization: Bearer <token>", {"WWW-Authenticate": "Bearer"})
            return None
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or self._verified is None:
            raise invalid("the Authorization header holds no bearer token that can be verified here")
        self._look()
        try:
            claims = self._verified(token.strip())
        except jwt.PyJWTError as error:
            raise invalid(str(error)) from error
        if claims["exp"] <= time.time() - LEEWAY_S:  # it was remembered, and has expired since
            raise invalid("Signature has expired")
        return claims

    def _look(self) -> None:
        """Take over the file of keys when it has changed; one that is wrong is logged, and the keys stay."""
        now = time.monotonic()
        if now - self._looked_at < LOOK_EVERY_S:
            return
        self._looked_at = now
        try:
            if self.file.stat().st_mtime_ns != self._changed_at:
                self._verified = self._cached(self._read())
                log.info("The keys have changed")
        except (OSError, SettingsError) as error:
            log.error("The keys cannot be read; the old ones stay", extra={"reason": str(error)})  # noqa: TRY400

    @property
    def file(self) -> Path:
        """The file of keys."""
        assert self.settings.keys_file  # noqa: S101 - asked for only where there is one
        return self.settings.keys_file

    def _read(self) -> dict[str, bytes]:
        """Keys by `kid`."""
        try:
            changed_at = self.file.stat().st_mtime_ns
            found = json.loads(self.file.read_text())["keys"]
            keys = {str(key["kid"]): base64url_decode(key["k"]) for key in found if key["kty"] == "oct"}
        except OSError as error:
            raise SettingsError(f"auth.keys_file: {self.file} cannot be read: {error.strerror}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise SettingsError(f"auth.keys_file: {self.file} is not a JWK Set (RFC 7517) of `oct` keys") from error
        if not keys:
            raise SettingsError(f"auth.keys_file: {self.file} holds no key")
        for kid, key in keys.items():
            if len(key) < LEAST_KEY_BYTES:
                raise SettingsError(f"auth.keys_file: key {kid!r} in {self.file} has less than {LEAST_KEY_BYTES} bytes")
        self._changed_at = changed_at
        return keys

    def _cached(self, keys: dict[str, bytes]) -> Any:
        def verify(token: str) -> Claims:
            key = keys.get(jwt.get_unverified_header(token).get("kid", ""))
            if key is None:
                raise jwt.InvalidKeyError("the token is signed by a key that is not known here")
            return jwt.decode(  # pyright: ignore[reportUnknownMemberType]
                token,
                key,
                algorithms=[ALGORITHM],
                issuer=self.settings.issuer,
                audience=self.settings.audience,
                leeway=LEEWAY_S,
                options={"require": REQUIRED},
            )

        return lru_cache(maxsize=REMEMBERED)(verify)


def invalid(detail: str) -> Problem:
    """401, with what RFC 6750 wants said."""
    return Problem(INVALID_TOKEN, detail, {"WWW-Authenticate": 'Bearer error="invalid_token"'})
