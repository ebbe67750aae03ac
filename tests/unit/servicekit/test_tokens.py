import base64
import json
import os
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from servicekit import following
from servicekit.problems import Problem
from servicekit.settings import Auth, SettingsError
from servicekit.tokens import Verifier

OLD, NEW = b"o" * 32, b"n" * 32


def write(file: Path, keys: dict[str, bytes]) -> None:
    found = [{"kty": "oct", "kid": kid, "k": base64.urlsafe_b64encode(key).decode()} for kid, key in keys.items()]
    # As the kubelet updates a file: a new one under the same name.
    new = file.with_suffix(".new")
    new.write_text(json.dumps({"keys": found}))
    os.utime(new, ns=(time.time_ns(), time.time_ns()))
    new.replace(file)


def sign(key: bytes = OLD, kid: str = "old", algorithm: str = "HS256", **other: Any) -> str:
    now = int(time.time())
    claims: dict[str, Any] = {"iss": "estate", "aud": "estate", "sub": "ada", "iat": now, "exp": now + 60} | other
    claims = {name: value for name, value in claims.items() if value is not None}
    token: str = jwt.encode(claims, key, algorithm, {"kid": kid})  # pyright: ignore[reportUnknownMemberType]
    return f"Bearer {token}"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    write(tmp_path / "jwks.json", {"old": OLD})
    return tmp_path / "jwks.json"


@pytest.fixture
def verifier(file: Path, monkeypatch: pytest.MonkeyPatch) -> Verifier:
    monkeypatch.setattr(following, "LOOK_EVERY_S", 0.0)
    return Verifier(Auth(keys_file=file))


def test_a_valid_token_gives_its_claims(verifier: Verifier) -> None:
    assert (verifier.claims(sign()) or {})["sub"] == "ada"


def test_the_same_subject_of_another_issuer_is_another_owner(verifier: Verifier) -> None:
    pairs = [
        (iss, sub)
        for iss in ("estate", "https://other", 'https://other", "')
        for sub in ("billing", "", "\ud800", '", "billing')
    ]
    owners = {verifier.owner({"iss": iss, "sub": sub}) for iss, sub in pairs}
    assert len(owners) == len(pairs)
    assert verifier.owner(verifier.claims(sign())) == "ada"  # as it was stored before there was another issuer
    assert verifier.owner(None) == ""


def test_a_missing_token_is_missing(verifier: Verifier) -> None:
    with pytest.raises(Problem) as refused:
        verifier.claims(None)
    assert refused.value.kind.title == "Missing token"
    assert refused.value.headers["WWW-Authenticate"] == "Bearer"


UNSIGNED = "Bearer " + ".".join(
    base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")
    for part in ({"alg": "none", "kid": "old"}, {"iss": "estate", "aud": "estate", "iat": 0, "exp": 2**40})
)


@pytest.mark.parametrize(
    "authorization",
    [
        sign(NEW),
        sign(NEW, "unknown"),
        sign(exp=int(time.time()) - 60),
        sign(exp=None),
        sign(iat=None),
        sign(iat=int(time.time()) + 3600),
        sign(iss="another"),
        sign(iss=None),
        sign(aud="another"),
        sign(aud=None),
        sign(nbf=int(time.time()) + 3600),
        sign(OLD * 2, algorithm="HS512"),
        f"{UNSIGNED}.",
        "Bearer",
        "Bearer x",
        "Basic eDp5",
        sign()[:-2] + "xx",
    ],
)
def test_what_is_not_a_valid_token_is_refused(verifier: Verifier, authorization: str) -> None:
    with pytest.raises(Problem) as refused:
        verifier.claims(authorization)
    assert refused.value.kind.title == "Invalid token"
    assert refused.value.kind.status == 401


def test_a_token_that_was_remembered_expires_all_the_same(verifier: Verifier, monkeypatch: pytest.MonkeyPatch) -> None:
    token = sign()
    verifier.claims(token)
    later = time.time() + 120
    monkeypatch.setattr(time, "time", lambda: later)
    with pytest.raises(Problem, match="expired"):
        verifier.claims(token)


def test_keys_rotate_while_the_service_runs(verifier: Verifier, file: Path) -> None:
    write(file, {"old": OLD, "new": NEW})
    assert verifier.claims(sign())
    assert verifier.claims(sign(NEW, "new"))
    write(file, {"new": NEW})
    with pytest.raises(Problem):
        verifier.claims(sign())
    assert verifier.claims(sign(NEW, "new"))


def test_keys_that_cannot_be_read_leave_the_old_ones(verifier: Verifier, file: Path) -> None:
    file.write_text("{")
    assert verifier.claims(sign())


@pytest.mark.parametrize(("keys", "said"), [({"short": b"k" * 31}, "less than 32 bytes"), ({}, "no key")])
def test_keys_that_are_no_good_stop_the_start(tmp_path: Path, keys: dict[str, bytes], said: str) -> None:
    write(tmp_path / "jwks.json", keys)
    with pytest.raises(SettingsError, match=said):
        Verifier(Auth(keys_file=tmp_path / "jwks.json"))


def test_tokens_that_are_required_need_keys() -> None:
    with pytest.raises(SettingsError, match="APP_AUTH_KEYS_FILE"):
        Verifier(Auth())
