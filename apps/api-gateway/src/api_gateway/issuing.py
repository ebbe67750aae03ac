"""POST /auth/token: tokens for clients that know their secret (RFC 6749, section 4.4)."""

import asyncio
import base64
import json
import time
import uuid
from collections import Counter as Counted
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import parse_qsl, unquote_plus

import jwt
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from prometheus_client import Counter
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from servicekit.following import Followed
from servicekit.problems import UNAVAILABLE, Problem, documented, unavailable
from servicekit.settings import Auth, unique, wrong
from servicekit.tokens import Verifier
from starlette.datastructures import Headers

from api_gateway.forwarded import Peers
from api_gateway.limits import TOO_MANY_REQUESTS, RateLimits
from api_gateway.routes import RateLimit
from api_gateway.shares import RETRY_AFTER_S, TOO_MANY_AT_ONCE, client_key

PATH = "/auth/token"
TOKEN_S = 24 * 3600
ATTEMPTS = RateLimit(requests=30, per_s=60)
"""Rate limit of one address: enough for all programs that share it, too low for guessing secrets."""
AT_ONCE, SHARE = 64, 4
"""Secrets that wait for verification, which runs one at a time, in total and for one client: many clients are needed to delay the others."""
ISSUED = Counter("gateway_tokens_issued", "Answers to who asked for a token", ["result"])
NOT_STORED = {"Cache-Control": "no-store", "Pragma": "no-cache"}
"""Headers of every response (RFC 6749, section 5.1)."""
FORM = "application/x-www-form-urlencoded"
PARAMETERS_LIMIT = 32
"""Maximum parameters of a form; `server.body_limit_bytes` bounds the body as a whole."""
NOBODYS = PasswordHasher(time_cost=2, memory_cost=19456, parallelism=1)
"""Hasher with OWASP's minimum for Argon2id: secrets are long and random here, and a pod has little memory."""


class Client(BaseModel):
    """A client that may obtain tokens."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = Field(min_length=1)
    secret_hash: str = Field(pattern=r"^\$argon2id\$")
    user_id: int
    username: str


class Clients(BaseModel):
    """The clients file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    clients: tuple[Client, ...]


class Requested(BaseModel):
    """The token request's form (RFC 6749, sections 2.3.1 and 4.4.2)."""

    grant_type: Literal["client_credentials"]
    client_id: str | None = Field(default=None, description="In place of HTTP Basic.")
    client_secret: str | None = Field(default=None, description="In place of HTTP Basic.")


class Granted(BaseModel):
    """A token response (RFC 6749, section 5.1)."""

    access_token: str
    token_type: str = "Bearer"  # noqa: S105 - its kind
    expires_in: int = Field(default=TOKEN_S, description="Seconds.")


class Refused(BaseModel):
    """A token error response (RFC 6749, section 5.2)."""

    error: str = Field(examples=["invalid_client"])
    error_description: str


SENT = {
    "requestBody": {"required": True, "content": {FORM: {"schema": Requested.model_json_schema()}}},
    "parameters": [
        {
            "name": "Authorization",
            "in": "header",
            "description": "HTTP Basic with client id and secret",
            "schema": {"type": "string"},
        }
    ],
}
"""OpenAPI description of the request: the form is parsed here, since frameworks use the last of two equal parameters."""


class RefusalError(Exception):
    """A token request that is refused.

    Args:
        status: status of the response.
        error: error code of RFC 6749.
        description: advice for the client.
    """

    def __init__(self, status: int, error: str, description: str) -> None:
        super().__init__(description)
        self.status = status
        self.refused = Refused(error=error, error_description=description)


@dataclass(frozen=True)
class Asked:
    """A token request: its grant type, the client's credentials and the scope."""

    grant: str | None
    id: str
    secret: str
    scope: str | None = None


class Issuer:
    """An issuer of tokens, which are signed with the first key in the file of keys.

    Args:
        settings: issuer and audience of the tokens.
        verifier: holder of the keys.
        clients: clients that may obtain tokens, by id.
    """

    def __init__(self, settings: Auth, verifier: Verifier, clients: Followed[dict[str, Client]]) -> None:
        self.settings = settings
        self.verifier = verifier
        self.clients = clients
        self._waiting: Counted[str] = Counted()
        self._one = asyncio.Semaphore(1)
        self._unknown = NOBODYS.hash(uuid.uuid4().hex)

    async def token(self, asked: Asked, asker: str) -> str:
        """Return a token for a client.

        Args:
            asked: token request.
            asker: key of the caller, by address.

        Raises:
            RefusalError: the credentials are wrong, or the request is for another grant type or a scope.
            Problem: 429, the caller has too many pending requests; 503, too many requests are pending.
        """
        if asked.grant is None:
            raise invalid("send grant_type=client_credentials")
        if asked.grant != "client_credentials":
            raise RefusalError(400, "unsupported_grant_type", "grant_type is client_credentials")
        # A token with another scope than the requested one would have to state it (RFC 6749, section 3.3), and no token here has a scope.
        if asked.scope:
            raise RefusalError(400, "invalid_scope", "tokens have no scope here: send none")
        client = self.clients.content().get(asked.id)
        # An unknown client takes as long as a known one, so that the response time reveals nothing.
        known = client.secret_hash if client else self._unknown
        if not await self._verified(known, asked.secret, asker) or client is None:
            raise RefusalError(401, "invalid_client", "client id or secret is wrong")
        return self.sign(client)

    def sign(self, client: Client) -> str:
        """Return a signed token for a client."""
        assert self.verifier.own  # noqa: S101 - there are clients only where there are keys
        key = next(key for key in self.verifier.own.content().values() if key.algorithm == "HS256")
        now = int(time.time())
        claims = {
            "iss": self.settings.issuer,
            "aud": self.settings.audience,
            "sub": client.id,
            "user_id": client.user_id,
            "username": client.username,
            "iat": now,
            "exp": now + TOKEN_S,
            "jti": str(uuid.uuid4()),
        }
        return jwt.encode(claims, key.material, key.algorithm, {"kid": key.kid})  # pyright: ignore[reportUnknownMemberType]

    async def _verified(self, secret_hash: str, secret: str, asker: str) -> bool:
        if self._waiting[asker] >= SHARE:
            detail = f"at most {SHARE} requests for a token at once; wait for the answer to one"
            raise Problem(TOO_MANY_AT_ONCE, detail, {"Retry-After": str(RETRY_AFTER_S)})
        if self._waiting.total() >= AT_ONCE:
            raise unavailable("too many ask for a token at once")
        self._waiting[asker] += 1
        try:
            async with self._one:
                return await asyncio.to_thread(matches, secret_hash, secret)
        finally:
            self._waiting[asker] -= 1
            self._waiting += Counted()  # drop callers without pending requests


def matches(secret_hash: str, secret: str) -> bool:
    """Return whether a secret matches a hash."""
    try:
        return NOBODYS.verify(secret_hash, secret)
    except (VerificationError, InvalidHashError):
        return False


def parse_clients(text: str) -> dict[str, Client]:
    """Return the clients in a file, by id.

    Raises:
        ValueError: the file is malformed; the message says how, and shows no hash.
    """
    try:
        clients = Clients.model_validate(json.loads(text, object_pairs_hook=unique)).clients
    except ValidationError as error:
        raise ValueError(f"holds a client that is wrong: {wrong(error)}") from error
    found = {client.id: client for client in clients}
    if len(found) < len(clients):
        raise ValueError("holds two clients with one id")
    return found


IN_UTF_8 = ("charset=utf-8", 'charset="utf-8"')


def parameters(headers: Headers, query: str, body: bytes) -> dict[str, str]:
    """Return the parameters of a form; those without a value count as absent (RFC 6749, section 3.2).

    Args:
        headers: headers of the request.
        query: query of its URL.
        body: encoded form.

    Raises:
        RefusalError: the body is not a form in UTF-8, a parameter is repeated, or it is in the URL, which ends up in logs (section 2.3.1).
    """
    media_type, *others = map(str.strip, headers.get("content-type", "").lower().split(";"))
    if media_type != FORM or any(other.startswith("charset") and other not in IN_UTF_8 for other in others):
        raise invalid(f"send grant_type=client_credentials as {FORM} in UTF-8")
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise invalid("send the form without a Content-Encoding")
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, errors="strict", max_num_fields=PARAMETERS_LIMIT)
        named = {name for name, _ in parse_qsl(query, max_num_fields=PARAMETERS_LIMIT)}
    except ValueError as error:
        raise invalid(f"the form is not UTF-8, or has more than {PARAMETERS_LIMIT} parameters") from error
    if len(dict(pairs)) < len(pairs):
        raise invalid("send each parameter once")
    if named & Requested.model_fields.keys():
        raise invalid("send the parameters in the form, not in the URL")
    return {name: value for name, value in pairs if value}


def invalid(description: str) -> RefusalError:
    """Return the refusal of a request that violates the standard."""
    return RefusalError(400, "invalid_request", description)


def credentials(authorizations: Sequence[str], form: Mapping[str, str]) -> tuple[str, str]:
    """Return client id and secret, from the header or the form, never both (RFC 6749, section 2.3).

    Raises:
        RefusalError: they are in both, or malformed.
    """
    if not authorizations:
        return form.get("client_id", ""), form.get("client_secret", "")
    if "client_secret" in form or len(authorizations) > 1:
        raise invalid("send client id and secret by HTTP Basic or in the form, one of them, once")
    scheme, _, encoded = authorizations[0].partition(" ")
    if scheme.lower() != "basic":
        raise RefusalError(401, "invalid_client", "the Authorization header is for HTTP Basic here")
    try:
        user, _, password = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
        user, password = (unquote_plus(part, errors="strict") for part in (user, password))
    except ValueError as error:
        raise RefusalError(401, "invalid_client", "the Authorization header is malformed") from error
    if form.get("client_id", user) != user:
        raise invalid("client_id is another one than that of HTTP Basic")
    return user, password


def router(issuer: Issuer, limits: RateLimits, peers: Peers) -> APIRouter:
    """Return the router of the token endpoint."""
    routes = APIRouter(tags=["tokens"])
    kinds = documented(TOO_MANY_REQUESTS, UNAVAILABLE)
    refusals: dict[int | str, dict[str, Any]] = {400: {"model": Refused}, 401: {"model": Refused}}

    @routes.post(
        PATH, response_model=Granted, responses=kinds | refusals, summary="A token for a client", openapi_extra=SENT
    )
    async def issue(request: Request) -> JSONResponse:  # pyright: ignore[reportUnusedFunction]
        asker = client_key(None, peers.client(request.scope)[0])
        limits.take("auth-token", ATTEMPTS, asker)
        try:
            form = parameters(request.headers, request.url.query, await request.body())
            user, password = credentials(request.headers.getlist("authorization"), form)
            token = await issuer.token(Asked(form.get("grant_type"), user, password, form.get("scope")), asker)
        except RefusalError as refusal:
            ISSUED.labels(refusal.refused.error).inc()
            challenge = {"WWW-Authenticate": 'Basic realm="tokens"'} if refusal.status == 401 else {}
            return JSONResponse(refusal.refused.model_dump(), refusal.status, NOT_STORED | challenge)
        except Problem:
            ISSUED.labels("busy").inc()
            raise
        ISSUED.labels("granted").inc()
        return JSONResponse(Granted(access_token=token).model_dump(), 200, NOT_STORED)

    return routes
