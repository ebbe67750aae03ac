"""POST /auth/token: tokens for clients that know their secret (RFC 6749, section 4.4)."""

import asyncio
import base64
import json
import time
import uuid
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
from api_gateway.shares import client_key

PATH = "/auth/token"
TOKEN_S = 24 * 3600
ATTEMPTS = RateLimit(requests=30, per_s=60)
"""Of one address: enough for every program behind it, too few to guess."""
AT_ONCE = 16
"""Secrets that wait for being verified, one after the other; more are told to come again."""
ISSUED = Counter("gateway_tokens_issued", "Answers to who asked for a token", ["result"])
NOT_STORED = {"Cache-Control": "no-store", "Pragma": "no-cache"}
"""RFC 6749, section 5.1."""
FORM = "application/x-www-form-urlencoded"
PARAMETERS_LIMIT = 32
"""In a form; the body as a whole is bounded by `server.body_limit_bytes`."""
NOBODYS = PasswordHasher(time_cost=2, memory_cost=19456, parallelism=1)
"""OWASP's least for Argon2id: secrets are long and random here, and a pod has little memory."""


class Client(BaseModel):
    """Who may have tokens."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = Field(min_length=1)
    secret_hash: str = Field(pattern=r"^\$argon2id\$")
    user_id: int
    username: str


class Clients(BaseModel):
    """All of them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    clients: tuple[Client, ...]


class Requested(BaseModel):
    """The form (RFC 6749, sections 2.3.1 and 4.4.2)."""

    grant_type: Literal["client_credentials"]
    client_id: str | None = Field(default=None, description="In place of HTTP Basic.")
    client_secret: str | None = Field(default=None, description="In place of HTTP Basic.")


class Granted(BaseModel):
    """A token (RFC 6749, section 5.1)."""

    access_token: str
    token_type: str = "Bearer"  # noqa: S105 - its kind
    expires_in: int = Field(default=TOKEN_S, description="Seconds.")


class Refused(BaseModel):
    """Why there is none (RFC 6749, section 5.2)."""

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
"""The request as its OpenAPI document has it: the form is read here, since frameworks take the last of two equal parameters."""


class RefusalError(Exception):
    """A request for a token that is refused.

    Args:
        status: of the answer.
        error: RFC 6749's word for it.
        description: what to do.
    """

    def __init__(self, status: int, error: str, description: str) -> None:
        super().__init__(description)
        self.status = status
        self.refused = Refused(error=error, error_description=description)


@dataclass(frozen=True)
class Asked:
    """What a client says of itself."""

    grant: str | None
    id: str
    secret: str
    scope: str | None = None


class Issuer:
    """Issues tokens, signed by the first key in the file of keys.

    Args:
        settings: whose tokens they are, and for whom.
        verifier: has the keys.
        clients: who may have tokens.
    """

    def __init__(self, settings: Auth, verifier: Verifier, clients: Followed[dict[str, Client]]) -> None:
        self.settings = settings
        self.verifier = verifier
        self.clients = clients
        self._waiting = 0
        self._one = asyncio.Semaphore(1)
        self._unknown = NOBODYS.hash(uuid.uuid4().hex)

    async def token(self, asked: Asked) -> str:
        """A token for a client.

        Raises:
            RefusalError: it is not the client that it says to be, or asks for something else.
            Problem: 503, too many ask at once.
        """
        if asked.grant is None:
            raise invalid("send grant_type=client_credentials")
        if asked.grant != "client_credentials":
            raise RefusalError(400, "unsupported_grant_type", "grant_type is client_credentials")
        # A token of another scope than was asked for would have to say so (RFC 6749, section 3.3), and none has any.
        if asked.scope:
            raise RefusalError(400, "invalid_scope", "tokens have no scope here: send none")
        client = self.clients.content().get(asked.id)
        # As long for a client that is not known: its answer tells nothing.
        if not await self._verified(client.secret_hash if client else self._unknown, asked.secret) or client is None:
            raise RefusalError(401, "invalid_client", "client id or secret is wrong")
        return self.sign(client)

    def sign(self, client: Client) -> str:
        """The token of a client."""
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

    async def _verified(self, secret_hash: str, secret: str) -> bool:
        if self._waiting >= AT_ONCE:
            raise unavailable("too many ask for a token at once")
        self._waiting += 1
        try:
            async with self._one:
                return await asyncio.to_thread(matches, secret_hash, secret)
        finally:
            self._waiting -= 1


def matches(secret_hash: str, secret: str) -> bool:
    """Whether a secret is the one that was hashed."""
    try:
        return NOBODYS.verify(secret_hash, secret)
    except (VerificationError, InvalidHashError):
        return False


def parse_clients(text: str) -> dict[str, Client]:
    """The clients in a file, by id.

    Raises:
        ValueError: it is malformed; with what is wrong, and no hash.
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
        headers: of the request.
        query: of its URL.
        body: the form.

    Raises:
        RefusalError: it is no form in UTF-8, a parameter is there twice, or in the URL, which ends up in logs (section 2.3.1).
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
    """Return what is answered to a request that is not as the standard has it."""
    return RefusalError(400, "invalid_request", description)


def credentials(authorizations: Sequence[str], form: Mapping[str, str]) -> tuple[str, str]:
    """Return id and secret, from the header or the form, never both (RFC 6749, section 2.3).

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
    """The endpoint."""
    routes = APIRouter(tags=["tokens"])
    kinds = documented(TOO_MANY_REQUESTS, UNAVAILABLE)
    refusals: dict[int | str, dict[str, Any]] = {400: {"model": Refused}, 401: {"model": Refused}}

    @routes.post(
        PATH, response_model=Granted, responses=kinds | refusals, summary="A token for a client", openapi_extra=SENT
    )
    async def issue(request: Request) -> JSONResponse:  # pyright: ignore[reportUnusedFunction]
        limits.take("auth-token", ATTEMPTS, client_key(None, peers.client(request.scope)[0]))
        try:
            form = parameters(request.headers, request.url.query, await request.body())
            user, password = credentials(request.headers.getlist("authorization"), form)
            token = await issuer.token(Asked(form.get("grant_type"), user, password, form.get("scope")))
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
