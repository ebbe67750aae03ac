"""Attacks on the verification of tokens, through the gateway: RFC 8725, RFC 7515 to 7519, RFC 6750, and vulnerabilities of other libraries."""

import asyncio
import base64
import json
import random
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm, get_default_algorithms
from servicekit.problems import Problem
from servicekit.settings import Auth, Jwks
from servicekit.tokens import Verifier

from tests.process.gateway.conftest import gateways, head
from tests.process.gateway.test_proxy import ask, status

pytestmark = pytest.mark.asyncio(loop_scope="module")

OTHER = "https://other.example"
NOW = int(time.time())
DAY_S = 86_400
SIGN: dict[str, Any] = get_default_algorithms()
SECRET, SHARED, PUBLISHED = (secrets.token_bytes(32) for _ in range(3))
RSA, HIDDEN = (rsa.generate_private_key(65537, 2048) for _ in range(2))
WEAK = rsa.generate_private_key(65537, 1024)  # noqa: S505
EC, EC384 = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP384R1())
ED, MINE = ed25519.Ed25519PrivateKey.generate(), ed25519.Ed25519PrivateKey.generate()
NEUTRAL = b"\1" + bytes(31)
"""Encoded neutral element of Ed25519: as a key, it has one signature for every message."""
FORGED = NEUTRAL + bytes(32)
ORDER = bytes.fromhex("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551")
"""Order of P-256."""


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def written(value: Any) -> bytes:
    return value if isinstance(value, bytes) else json.dumps(value, separators=(",", ":")).encode()


def secret(kid: str, key: bytes) -> dict[str, Any]:
    return {"kty": "oct", "kid": kid, "k": b64(key)}


def public(kid: str, key: Any, **more: Any) -> dict[str, Any]:
    """Return a private key's public half, as an issuer publishes it."""
    algorithm = {rsa.RSAPrivateKey: RSAAlgorithm, ec.EllipticCurvePrivateKey: ECAlgorithm}
    kind: Any = next((algorithm[base] for base in algorithm if isinstance(key, base)), OKPAlgorithm)
    return {**kind.to_jwk(key.public_key(), as_dict=True), "kid": kid} | more


OWN_SET = {"keys": [secret("own", SECRET), secret("shared", SHARED), secret("None", SECRET)]}
OTHER_SET: dict[str, Any] = {
    "keys": [
        public("rsa", RSA),
        public("ec", EC),
        public("ed", ED),
        public("shared", ED),
        public("None", ED),
        public("weak", WEAK),
        public("enc", HIDDEN, use="enc"),
        public("wraps", HIDDEN, key_ops=["wrapKey"]),
        public("p384", EC384),
        public("leaked", HIDDEN) | RSAAlgorithm.to_jwk(HIDDEN, as_dict=True) | {"kid": "leaked", "key_ops": ["sign"]},
        secret("published", PUBLISHED),
        {"kty": "OKP", "crv": "Ed25519", "kid": "neutral", "x": b64(NEUTRAL)},
        {"kty": "RSA", "kid": "one", "n": public("", HIDDEN)["n"], "e": "AQ"},
        {"kty": "RSA", "kid": "huge", "n": b64(b"\xff" * 8192), "e": "AQAB"},
        {"kty": "EC", "crv": [], "kid": "odd"},
        {"kty": ["RSA"], "kid": {}},
    ]
}


def token(
    key: Any = SECRET, alg: str = "HS256", kid: Any = "own", claims: Any = None, said: Any = None, **header: Any
) -> str:
    """Return a token; `said` is the algorithm in its header where that differs from the one it is signed with; ... removes a header."""
    full = {"alg": said or alg, "typ": "JWT", "kid": kid} | header
    written_header = {name: value for name, value in full.items() if value is not ...}
    signed = f"{b64(written(written_header))}.{b64(written(payload() if claims is None else claims))}"
    return f"{signed}.{b64(SIGN[alg].sign(signed.encode(), key))}"


def payload(**other: Any) -> dict[str, Any]:
    """Return claims of our own issuer; ... removes one."""
    claims = {"iss": "estate", "aud": "estate", "sub": "ada", "iat": NOW - 10, "exp": NOW + DAY_S} | other
    return {name: value for name, value in claims.items() if value is not ...}


def theirs(key: Any, alg: str, kid: Any, **header: Any) -> str:
    """Return a token of the other issuer."""
    return token(key, alg, kid, payload(iss=OTHER), **header)


def claiming(**other: Any) -> str:
    return token(claims=payload(**other))


def bytes_claiming(text: bytes) -> str:
    """Return a signed token with valid claims, followed by claims written as no JSON writer would."""
    return token(claims=written(payload(exp=...))[:-1] + b"," + text + b"}")


def unsigned(signature: str = "", **header: Any) -> str:
    return f"{b64(written({'typ': 'JWT', 'kid': 'own'} | header))}.{b64(written(payload()))}.{signature}"


def under(header: bytes, *rest: str) -> str:
    """Return a token with a header exactly as given."""
    return ".".join((b64(header), *rest))


def resigned(value: str, signature: bytes) -> str:
    return f"{value.rpartition('.')[0]}.{b64(signature)}"


def in_der(value: str) -> str:
    """Return a token with a correct signature in the encoding of X.509, which JWS does not use."""
    return resigned(value, EC.sign(value.rpartition(".")[0].encode(), ec.ECDSA(hashes.SHA256())))


def pem(key: Any) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def der(key: Any) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


VALID = {
    "HS256 of our own": token(),
    "RS256 of the other issuer": theirs(RSA, "RS256", "rsa"),
    "ES256 of the other issuer": theirs(EC, "ES256", "ec"),
    "EdDSA of the other issuer": theirs(ED, "EdDSA", "ed"),
    "a kid that both issuers have, ours": token(SHARED, kid="shared"),
    "a kid that both issuers have, theirs": theirs(ED, "EdDSA", "shared"),
    "ours among other audiences": claiming(aud=["another", "estate"]),
    "fractions of seconds": claiming(iat=NOW - 10.5, exp=NOW + DAY_S + 0.5),
    "until the end of time": claiming(exp=10**30),
    "a type of media": token(typ="application/at+jwt"),
}
GOOD = VALID["HS256 of our own"]
HEADER, PAYLOAD, SIGNATURE = GOOD.split(".")
SPARE = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
JWE = ".".join(b64(part) for part in (b'{"alg":"dir","enc":"A128GCM","kid":"own"}', b"", bytes(12), b"x", bytes(16)))

NONE = {
    f"alg {name or 'empty'}{' with a signature' if signature else ''}": unsigned(signature, alg=name)
    for name in ("none", "None", "NONE", "nOnE", "none ", "", "n\u043ene")
    for signature in ("", SIGNATURE)
} | {
    "no alg": unsigned(SIGNATURE),
    "alg null": unsigned(SIGNATURE, alg=None),
    "alg a list": unsigned(SIGNATURE, alg=["HS256", "none"]),
    "alg a dict": unsigned(SIGNATURE, alg={"HS256": 1}),
    "alg a number": unsigned(SIGNATURE, alg=256),
    "alg true": unsigned(SIGNATURE, alg=True),
    "alg in lower case": token(said="hs256"),
    "alg none of the other issuer": f"{b64(written({'alg': 'none', 'kid': 'rsa'}))}.{b64(written(payload(iss=OTHER)))}.",
}
CONFUSED = {
    f"HS256 by the public {kid} key as {form}": theirs(material, "HS256", kid)
    for kid, key in (("rsa", RSA), ("ec", EC), ("ed", ED))
    for form, material in (
        ("PEM", pem(key)),
        ("PEM without its newline", pem(key).rstrip()),
        ("DER", der(key)),
        ("JWK", written(public(kid, key))),
    )
} | {
    "HS256 by the bytes of an Ed25519 key": theirs(
        ED.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw), "HS256", "ed"
    ),
    "HS256 by nothing": token(b""),
    "HS256 by its own kid": token(b"own"),
    "HS384 in place of HS256": token(alg="HS384"),
    "HS512 in place of HS256": token(alg="HS512"),
    "HS256 that says HS512": token(said="HS512"),
    "HS512 that says HS256": token(alg="HS512", said="HS256"),
    "PS256 in place of RS256": theirs(RSA, "PS256", "rsa"),
    "PS256 that says RS256": theirs(RSA, "PS256", "rsa", said="RS256"),
    "RS512 in place of RS256": theirs(RSA, "RS512", "rsa"),
    "RS256 that says ES256": theirs(RSA, "RS256", "rsa", said="ES256"),
    "RS256 by the kid of an EC key": theirs(RSA, "RS256", "ec"),
    "ES256 by the kid of an RSA key": theirs(EC, "ES256", "rsa"),
    "EdDSA by the kid of an EC key": theirs(ED, "EdDSA", "ec"),
    "ES256 that says EdDSA": theirs(EC, "ES256", "ed", said="EdDSA"),
    "ES256K": theirs(EC, "ES256", "ec", said="ES256K"),
    "ES384 by a key of P-384": theirs(EC384, "ES384", "p384"),
    "ES256 by a key of P-384": theirs(EC384, "ES384", "p384", said="ES256"),
}
MINE_JWK = public("mine", MINE)
INJECTED = {
    f"my {name}, and {'a known' if kid == 'own' else 'my'} kid": token(MINE, "EdDSA", kid, **{name: value})
    for kid in ("own", "mine")
    for name, value in {  # pyright: ignore[reportUnknownVariableType] - values of every type
        "jwk": MINE_JWK,
        "jku": "https://mine.example/jwks.json",
        "x5u": "https://mine.example/certificate.pem",
        "x5c": [base64.b64encode(der(MINE)).decode()],
        "x5t": b64(bytes(20)),
    }.items()
} | {
    "my jwk, and a kid of the other issuer": theirs(MINE, "EdDSA", "ed", jwk=MINE_JWK),
    "my jwk, a secret": token(b"mine" * 8, jwk=secret("own", b"mine" * 8)),
    "a jwk of an empty secret": token(b"", jwk=secret("own", b"")),
}
KIDS = {
    f"kid {name}": token(b"", kid=kid)
    for name, kid in {
        "of a path to nothing": "../../../../../../dev/null",
        "of a path with a NUL": "/dev/null\0own",
        "with a NUL": "own\0",
        "of a URL": "file:///dev/null",
        "of SQL": "x' UNION SELECT ''--",
        "of a command": "own;$(id)|id",
        "with line breaks": "own\r\nX-Injected: 1",
        "with a lone surrogate": "\ud800",
        "empty": "",
        "of 2,000 characters": "k" * 2000,
    }.items()
} | {
    f"kid {name}, well signed": token(kid=kid)
    for name, kid in {
        "null": None,
        "missing": ...,
        "a number": 1,
        "a list": ["own"],
        "a dict": {"own": "own"},
        "true": True,
        "in upper case": "OWN",
        "after a space": " own",
        "a dunder": "__class__",
    }.items()
}
HEADERS = {
    "crit of something unknown": token(crit=["x"], x=1),
    "crit of exp": token(crit=["exp"], exp=NOW + DAY_S),
    "crit empty": token(crit=[]),
    "crit null": token(crit=None),
    "crit a string": token(crit="b64"),
    "crit of b64": token(crit=["b64"], b64=True),
    "b64 false": token(b64=False),
    "b64 false and critical": token(b64=False, crit=["b64"]),
    "b64 false, critical, and a payload apart": under(
        b'{"alg":"HS256","kid":"own","b64":false,"crit":["b64"]}', "", SIGNATURE
    ),
    "zip of a payload that is compressed": token(claims=b"\x78\x9c" + bytes(40), zip="DEF"),
    "typ of a logout": token(typ="logout+jwt"),
    "typ of a proof": token(typ="dpop+jwt"),
    "typ of an event": token(typ="secevent+jwt"),
    "typ of an id": token(typ="ID"),
    "typ of a JWE": token(typ="JWE"),
    "typ a list": token(typ=["JWT"]),
    "typ null": token(typ=None),
    "typ empty": token(typ=""),
    "a token in a token": token(claims=GOOD.encode(), cty="JWT"),
    "a token in a token, as a string": token(claims=written(GOOD), cty="JWT"),
    "a token in a token of mine": token(MINE, "EdDSA", "mine", GOOD.encode(), cty="JWT"),
    "a header that is a list": under(b"[]", PAYLOAD, SIGNATURE),
    "a header that is a string": under(b'"HS256"', PAYLOAD, SIGNATURE),
    "a header that is a number": under(b"1", PAYLOAD, SIGNATURE),
    "a header that is no JSON": under(b"{alg:HS256}", PAYLOAD, SIGNATURE),
    "a header that is no UTF-8": under(bytes([0xFF, 0xFE]), PAYLOAD, SIGNATURE),
    "a header with alg twice, HS256 first": under(b'{"alg":"HS256","alg":"none","kid":"own"}', PAYLOAD, ""),
    "a header with alg twice, none first": under(b'{"alg":"none","alg":"HS256","kid":"own"}', PAYLOAD, ""),
    "a header of 1,400 levels": under(b"[" * 1400, PAYLOAD, SIGNATURE),
    "a header of 1,400 levels within": under(b'{"alg":' + b"[" * 1400 + b"]" * 1400 + b"}", PAYLOAD, SIGNATURE),
}
SHAPES = {
    "nothing": "",
    "one dot": ".",
    "two dots": "..",
    "a thousand dots": "." * 1000,
    "null": "null",
    "two parts": f"{HEADER}.{PAYLOAD}",
    "no signature": f"{HEADER}.{PAYLOAD}.",
    "a signature of a space": f"{HEADER}.{PAYLOAD}. ",
    "a signature of a tab": f"{HEADER}.{PAYLOAD}.\t",
    "a signature of padding": f"{HEADER}.{PAYLOAD}.====",
    "a signature of zeros": f"{HEADER}.{PAYLOAD}.{b64(bytes(32))}",
    "a signature cut by a character": GOOD[:-1],
    "a signature cut to a half": f"{HEADER}.{PAYLOAD}.{SIGNATURE[:21]}",
    "a signature cut to a byte": f"{HEADER}.{PAYLOAD}.{SIGNATURE[:2]}",
    "a signature and a character": GOOD + "A",
    "a signature and a byte": GOOD[:-1] + "AAA",
    "a signature twice": GOOD + SIGNATURE,
    "the signature of another token": f"{HEADER}.{b64(written(payload(sub='root')))}.{SIGNATURE}",
    "the payload of another token": f"{HEADER}.{theirs(ED, 'EdDSA', 'ed').split('.')[1]}.{SIGNATURE}",
    "a signature without its parts": f"..{SIGNATURE}",
    "no header": f".{PAYLOAD}.{SIGNATURE}",
    "no payload": f"{HEADER}..{SIGNATURE}",
    "parts in another order": f"{PAYLOAD}.{HEADER}.{SIGNATURE}",
    "four parts": f"{GOOD}.",
    "four parts, the first empty": f".{GOOD}",
    "a dot too many inside": f"{HEADER}..{PAYLOAD}.{SIGNATURE}",
    "two tokens": f"{GOOD}.{GOOD}",
    "five parts, as a JWE": JWE,
    "five parts of a token": f"{HEADER}.{PAYLOAD}.{SIGNATURE}..",
    "five parts that make do with the key": under(
        b'{"alg":"RSA-OAEP","enc":"A256GCM","kid":"rsa"}', "AAAA", "AAAA", "AAAA", "AAAA"
    ),
    "JSON-serialised": json.dumps({"protected": HEADER, "payload": PAYLOAD, "signature": SIGNATURE}),
    "JSON-serialised, general": json.dumps(
        {"payload": PAYLOAD, "signatures": [{"protected": HEADER, "signature": SIGNATURE}]}
    ),
    "JSON-serialised without spaces": f'{{"payload":"{PAYLOAD}","protected":"{HEADER}","signature":"{SIGNATURE}"}}',
    "quoted": f'"{GOOD}"',
    "encoded once more": b64(GOOD.encode()),
    "percent-encoded": GOOD.replace(".", "%2E"),
    "an empty payload": token(claims=b""),
    "a payload that is a list": token(claims=[payload()]),
    "a payload that is a string": token(claims=b'"x"'),
    "a payload that is null": token(claims=b"null"),
    "a payload that is a number": token(claims=b"1"),
    "a payload that is no JSON": token(claims=b"{iss:estate}"),
    "a payload that is no UTF-8": token(claims=b"\xff\xfe"),
    "a payload in UTF-16": token(claims=json.dumps(payload()).encode("utf-16")[:2]),
    "a payload of two objects": token(claims=written(payload()) * 2),
    "a payload of 2,000 levels": token(claims=b"[" * 2000),
    "a payload of 1,200 levels within": bytes_claiming(b'"exp":1,"x":' + b"[" * 1200 + b"]" * 1200),
    "a number of 2,500 digits for exp": bytes_claiming(b'"exp":-' + b"9" * 2500),
    "a token of 5,000 characters": claiming(x="x" * 3700),
    "a token of 20,000 characters": claiming(x="x" * 15_000),
}
ENCODINGS = {
    "padding": GOOD + "=",
    "more padding": GOOD + "====",
    "padding in the header": f"{HEADER}==.{PAYLOAD}.{SIGNATURE}",
    "padding in the payload": f"{HEADER}.{PAYLOAD}==.{SIGNATURE}",
    "spare bits": GOOD[:-1] + SPARE[SPARE.index(GOOD[-1]) ^ 1],
    "a star in the signature": f"{HEADER}.{PAYLOAD}.{SIGNATURE[:9]}*{SIGNATURE[9:]}",
    "stars at the end": GOOD + "****",
    "a space in the signature": f"{HEADER}.{PAYLOAD}.{SIGNATURE[:9]} {SIGNATURE[9:]}",
    "a space in the payload": f"{HEADER}.{PAYLOAD[:9]} {PAYLOAD[9:]}.{SIGNATURE}",
    "a space after the header": f"{HEADER} .{PAYLOAD}.{SIGNATURE}",
    "a tab in the signature": f"{HEADER}.{PAYLOAD}.{SIGNATURE[:9]}\t{SIGNATURE[9:]}",
    "a tab before the token": f"\t{GOOD}",
    "a comma at the end": GOOD + ",",
    "a semicolon at the end": GOOD + ";",
    "a no-break space at the end": GOOD + "\xa0",
    "a next line at the end": GOOD + "\x85",
    "a Latin-1 letter in the signature": f"{HEADER}.{PAYLOAD}.{SIGNATURE[:9]}\xe9{SIGNATURE[9:]}",
    "a letter in full width": f"{HEADER}.{PAYLOAD}.".encode() + "\uff41".encode() + SIGNATURE[1:].encode(),
    "a zero-width space": GOOD.encode() + "\u200b".encode(),
    "dots in full width": GOOD.replace(".", "\uff0e").encode(),
    "a mark of byte order": "\ufeff".encode() + GOOD.encode(),
}
SIGNATURES = {
    "ES256 of r and s zero": resigned(theirs(EC, "ES256", "ec"), bytes(64)),
    "ES256 of r and s the order of the curve": resigned(theirs(EC, "ES256", "ec"), ORDER * 2),
    "ES256 of r and s one": resigned(theirs(EC, "ES256", "ec"), (bytes(31) + b"\1") * 2),
    "ES256 in DER": in_der(theirs(EC, "ES256", "ec")),
    "ES256 empty": resigned(theirs(EC, "ES256", "ec"), b""),
    "ES256 of 2,400 zeros": resigned(theirs(EC, "ES256", "ec"), bytes(2400)),
    "RS256 of zero": resigned(theirs(RSA, "RS256", "rsa"), bytes(256)),
    "RS256 of one": resigned(theirs(RSA, "RS256", "rsa"), bytes(255) + bytes([1])),
    "RS256 more than its modulus": resigned(theirs(RSA, "RS256", "rsa"), bytes([255]) * 256),
    "RS256 empty": resigned(theirs(RSA, "RS256", "rsa"), b""),
    "EdDSA of the neutral point": resigned(theirs(ED, "EdDSA", "ed"), FORGED),
    "EdDSA of zeros": resigned(theirs(ED, "EdDSA", "ed"), bytes(64)),
    "EdDSA of another length": resigned(theirs(ED, "EdDSA", "ed"), bytes(63)),
    "EdDSA empty": resigned(theirs(ED, "EdDSA", "ed"), b""),
}
CLAIMS = (
    {
        f"exp {name}": claiming(exp=value)
        for name, value in {  # pyright: ignore[reportUnknownVariableType] - values of every type
            "a string": str(NOW + DAY_S),
            "a date": "2999-01-01T00:00:00Z",
            "a list": [NOW + DAY_S],
            "a dict": {},
            "null": None,
            "true": True,
            "missing": ...,
            "zero": 0,
            "negative": -1,
            "hugely negative": -(10**30),
            "past by more than the leeway": NOW - 6,
            "past by a day": NOW - DAY_S,
        }.items()
    }
    | {
        f"{claim} {value.decode()}": token(
            claims=written(payload(**{claim: ...}))[:-1] + b',"%b":%b}' % (claim.encode(), value)
        )
        for claim in ("exp", "iat", "nbf")
        for value in (b"NaN", b"Infinity", b"1e400", b"-Infinity")
    }
    | {
        f"{claim} {name}": claiming(**{claim: value})
        for claim in ("iat", "nbf")
        for name, value in {  # pyright: ignore[reportUnknownVariableType] - values of every type
            "a string": str(NOW - 10),
            "a list": [NOW],
            "a dict": {},
            "null": None,
            "true": True,
            "in an hour": NOW + 3600,
            "at the end of time": 10**30,
        }.items()
    }
    | {
        f"{claim} {name}": claiming(**{claim: value})
        for claim in ("iss", "aud")
        for name, value in {  # pyright: ignore[reportUnknownVariableType] - values of every type
            "missing": ...,
            "null": None,
            "empty": "",
            "a number": 1,
            "true": True,
            "another": "another",
            "with a slash": "estate/",
            "in upper case": "ESTATE",
            "with a space": "estate ",
            "with a NUL": "estate\0",
            "a look-alike": "est\u0430te",
            "longer": "estate.example",
            "a part": "est",
            "a dict": {"estate": 1},
            "an empty list": [],
            "a list of another": ["another"],
            "a list within a list": [["estate"]],
            "None": "None",
        }.items()
    }
    | {
        "iss a list of ours": claiming(iss=["estate"]),
        "iss a list as Python writes it": claiming(iss="['estate']"),
        "aud a list with ours and a number": claiming(aud=["estate", 1]),
        "iat missing": claiming(iat=...),
        "sub a number": claiming(sub=1),
        "sub a dict": claiming(sub={"$ne": ""}),
        "exp twice, past at last": bytes_claiming(b'"exp":%d,"exp":1' % (NOW + DAY_S)),
        "iss twice, another at last": bytes_claiming(b'"exp":%d,"iss":"another"' % (NOW + DAY_S)),
        "aud twice, another at last": bytes_claiming(b'"exp":%d,"aud":"another"' % (NOW + DAY_S)),
        "exp in the header only": token(claims=payload(exp=...), exp=NOW + DAY_S),
        "claims in another case": token(claims=payload(exp=..., EXP=NOW + DAY_S)),
        "claims with an escaped name": bytes_claiming(b'"exp":%d,"\\u0065xp":1' % (NOW + DAY_S)),
    }
)
ISSUERS = {
    "of the other issuer, by our key": token(claims=payload(iss=OTHER)),
    "of ours, by the other issuer's key": token(RSA, "RS256", "rsa", payload()),
    "of ours, by the other issuer's key under a kid of both": token(ED, "EdDSA", "shared"),
    "of the other issuer, by our key under a kid of both": theirs(SHARED, "HS256", "shared"),
    "of the other issuer with a slash": token(ED, "EdDSA", "ed", payload(iss=OTHER + "/")),
    "of the other issuer in upper case": token(ED, "EdDSA", "ed", payload(iss=OTHER.upper())),
    "of the other issuer for another": token(ED, "EdDSA", "ed", payload(iss=OTHER, aud="another")),
    "of the other issuer, expired": token(ED, "EdDSA", "ed", payload(iss=OTHER, exp=NOW - 60)),
    "of both issuers": token(ED, "EdDSA", "ed", payload(iss=["estate", OTHER])),
    "of the URL of the keys": token(ED, "EdDSA", "ed", payload(iss="http://127.0.0.1/jwks.json")),
    "by a secret that is published": theirs(PUBLISHED, "HS256", "published"),
    "by a private key that is published": theirs(HIDDEN, "RS256", "leaked"),
    "by an RSA key of 1,024 bits": theirs(WEAK, "RS256", "weak"),
    "by an RSA key of 65,536 bits": resigned(theirs(RSA, "RS256", "huge"), b"\0\0\0"),
    "by an RSA key with the exponent one": theirs(HIDDEN, "RS256", "one"),
    "by a key for encryption": theirs(HIDDEN, "RS256", "enc"),
    "by a key for wrapping": theirs(HIDDEN, "RS256", "wraps"),
    "by an Ed25519 key of small order": resigned(theirs(ED, "EdDSA", "neutral"), FORGED),
    "by a key of no kind": theirs(EC, "ES256", "odd"),
    "no kid, of the other issuer": theirs(ED, "EdDSA", ...),
}
TOKENS = {
    f"{group}: {name}": value
    for group, attacks in {
        "none": NONE, "confusion": CONFUSED, "injection": INJECTED, "kid": KIDS, "header": HEADERS, "shape": SHAPES,
        "encoding": ENCODINGS, "signature": SIGNATURES, "claim": CLAIMS, "issuer": ISSUERS,
    }.items()
    for name, value in attacks.items()
}  # fmt: skip
AUTHORIZATIONS = {
    "no header": b"",
    "an empty header": b"Authorization:\r\n",
    "a header of spaces": b"Authorization:    \r\n",
    "a scheme alone": b"Authorization: Bearer\r\n",
    "a token alone": b"Authorization: %b\r\n",
    "the scheme twice": b"Authorization: Bearer Bearer %b\r\n",
    "the scheme with a colon": b"Authorization: Bearer: %b\r\n",
    "the scheme and a tab": b"Authorization: Bearer\t%b\r\n",
    "the scheme, a space and a tab": b"Authorization: Bearer \t%b\r\n",
    "the scheme and no space": b"Authorization: Bearer%b\r\n",
    "the scheme in full width": "Authorization: \uff22earer %b\r\n".encode(),
    "another scheme": b"Authorization: Basic %b\r\n",
    "another scheme that ends alike": b"Authorization: NotBearer %b\r\n",
    "a token of a proof": b"Authorization: DPoP %b\r\n",
    "two tokens, joined by a comma": b"Authorization: Bearer %b, Bearer x.y.z\r\n",
    "two tokens, the good one last": b"Authorization: Bearer x.y.z, Bearer %b\r\n",
    "two tokens, joined by a space": b"Authorization: Bearer %b x\r\n",
    "a parameter": b"Authorization: Bearer token=%b\r\n",
    "another header": b"X-Authorization: Bearer %b\r\n",
    "the proxy's header": b"Proxy-Authorization: Bearer %b\r\n",
    "a cookie": b"Cookie: access_token=%b; token=%b\r\n",
    "an underscore": b"Authorization_: Bearer %b\r\n",
    "a token of 30,000 characters": b"Authorization: Bearer " + b"x" * 30_000 + b"\r\n",
    "30,000 dots": b"Authorization: Bearer " + b"." * 30_000 + b"\r\n",
    "no ASCII": b"Authorization: Bearer \xff\xfe\x80\r\n",
    "no ASCII after a token": b"Authorization: Bearer %b\xff\r\n",
}
MALFORMED = {
    "two headers, the good one first": b"Authorization: Bearer %b\r\nAuthorization: Bearer x.y.z\r\n",
    "two headers, the good one last": b"Authorization: Bearer x.y.z\r\nAuthorization: Bearer %b\r\n",
    "two headers of another case": b"Authorization: Bearer %b\r\naUTHORIZATION: Basic eDp5\r\n",
    "two headers alike": b"Authorization: Bearer %b\r\nAuthorization: Bearer %b\r\n",
    "a good header and an empty one": b"Authorization: Bearer %b\r\nAuthorization:\r\n",
    "a space before the colon": b"Authorization : Bearer %b\r\n",
    "a header over two lines": b"Authorization: Bearer\r\n %b\r\n",
    "a token over two lines": b"Authorization: Bearer %b\r\n x\r\n",
    "a NUL": b"Authorization: Bearer %b\0\r\n",
    "a line feed in the token": b"Authorization: Bearer %b\nx\r\n",
    "a return in the token": b"Authorization: Bearer %b\rx\r\n",
    "a vertical tab": b"Authorization: Bearer %b\x0b\r\n",
    "a header of 300,000 characters": b"Authorization: Bearer " + b"x" * 300_000 + b"\r\n",
}


@dataclass
class Guarded:
    """A gateway that requires tokens, and the requests seen behind it."""

    verifier: Verifier
    port: int = 0
    keys_url: str = ""
    fetched: list[str] = field(default_factory=list[str])
    """Paths requested from the other issuer's key server."""
    seen: list[bytes] = field(default_factory=list[bytes])
    """Requests that reached the service."""

    async def ask(self, *lines: bytes) -> bytes:
        return await ask(self.port, b"GET /s/1 HTTP/1.1\r\nHost: h\r\n" + b"".join(lines) + b"\r\n")


@asynccontextmanager
async def guarding(folder: Path) -> AsyncGenerator[Guarded]:
    """Yield a gateway that accepts our own tokens and those of another issuer, with a folder for our keys."""
    fetched: list[str] = []
    seen: list[bytes] = []

    async def publish(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = (await head(reader)).split()
        fetched.append(asked[1].decode() if asked else "")
        body = written(OTHER_SET)
        writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
        writer.close()

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while request := await head(reader):
            seen.append(request)
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(request), request))

    (folder / "keys.json").write_bytes(written(OWN_SET))
    async with gateways() as gateway, await asyncio.start_server(publish, "127.0.0.1", 0) as publisher:
        url = f"http://127.0.0.1:{publisher.sockets[0].getsockname()[1]}"
        verifier = Verifier(Auth(keys_file=folder / "keys.json", jwks=Jwks(url=f"{url}/jwks.json", issuer=OTHER)))
        assert verifier.remote
        assert await verifier.remote.refresh(), verifier.remote.problem
        port = await gateway(echo, verifier=verifier, auth="required")
        yield Guarded(verifier, port, url, fetched, seen)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Guarded]:
    """Yield one gateway for all attacks: starting one for each took most of their time."""
    async with guarding(tmp_path_factory.mktemp("keys")) as guarded:
        yield guarded
        for name, value in VALID.items():  # none of the attacks has made the gateway refuse everything
            assert status(await guarded.ask(bearer(value))) == 200, name


@pytest.fixture
def guarded(shared: Guarded) -> Iterator[Guarded]:
    yield shared
    shared.seen.clear()


def bearer(value: str | bytes) -> bytes:
    # Characters outside Latin-1 can be in a header only as UTF-8 bytes.
    return b"Authorization: Bearer %b\r\n" % (value.encode("latin-1") if isinstance(value, str) else value)


def is_refusal(answer: bytes) -> bool:
    """Return whether the answer is the 401 that a client can understand."""
    lines = answer.partition(b"\r\n\r\n")[0].lower().split(b"\r\n")
    return (
        status(answer) == 401
        and b"content-type: application/problem+json" in lines
        and any(line.startswith(b"www-authenticate: bearer") for line in lines)
    )


@pytest.mark.parametrize("value", VALID.values(), ids=VALID.keys())
async def test_a_valid_token_passes(guarded: Guarded, value: str) -> None:
    answer = await guarded.ask(bearer(value))
    assert status(answer) == 200, answer
    assert value.encode() in guarded.seen[0]


async def test_a_token_that_has_just_expired_passes_within_the_leeway(guarded: Guarded) -> None:
    assert status(await guarded.ask(bearer(claiming(exp=int(time.time()) - 1)))) == 200


@pytest.mark.parametrize("scheme", [b"bearer", b"BEARER", b"bEaReR"])
async def test_the_scheme_is_taken_in_any_case(guarded: Guarded, scheme: bytes) -> None:
    assert status(await guarded.ask(b"Authorization: %b %b\r\n" % (scheme, GOOD.encode()))) == 200


@pytest.mark.parametrize("value", TOKENS.values(), ids=TOKENS.keys())
async def test_a_token_that_is_not_valid_gets_no_further_than_the_gateway(guarded: Guarded, value: str | bytes) -> None:
    answer = await guarded.ask(bearer(value))
    assert is_refusal(answer), answer
    assert not guarded.seen


@pytest.mark.parametrize("lines", AUTHORIZATIONS.values(), ids=AUTHORIZATIONS.keys())
async def test_a_header_that_holds_no_bearer_token_gets_no_further(guarded: Guarded, lines: bytes) -> None:
    answer = await guarded.ask(lines.replace(b"%b", GOOD.encode()))
    assert is_refusal(answer), answer
    assert not guarded.seen


@pytest.mark.parametrize("lines", MALFORMED.values(), ids=MALFORMED.keys())
async def test_a_header_that_is_malformed_or_has_two_meanings_gets_no_further(guarded: Guarded, lines: bytes) -> None:
    answer = await guarded.ask(lines.replace(b"%b", GOOD.encode()))
    assert status(answer) in (400, 431) or is_refusal(answer), answer
    assert not guarded.seen


@pytest.mark.parametrize("name", ["jku", "x5u"])
@pytest.mark.parametrize("issuer", ["estate", OTHER])
async def test_a_url_in_a_token_is_not_fetched(guarded: Guarded, name: str, issuer: str) -> None:
    header: dict[str, Any] = {name: f"{guarded.keys_url}/mine"}
    assert is_refusal(await guarded.ask(bearer(token(MINE, "EdDSA", "mine", payload(iss=issuer), **header))))
    assert set(guarded.fetched) == {"/jwks.json"}


async def test_many_unknown_keys_are_no_way_to_make_the_gateway_fetch(tmp_path: Path) -> None:
    async with guarding(tmp_path) as guarded:  # a gateway of its own: all its fetches are counted
        for number in range(50):
            assert is_refusal(await guarded.ask(bearer(theirs(MINE, "EdDSA", f"mine-{number}"))))
        assert guarded.fetched == ["/jwks.json"]


Mutation = Callable[[random.Random, str], str]


def flip(chance: random.Random, text: str) -> str:
    at = chance.randrange(len(text))
    return text[:at] + chr(ord(text[at]) ^ 1 << chance.randrange(7)) + text[at + 1 :]


def replace(chance: random.Random, text: str) -> str:
    at = chance.randrange(len(text))
    return text[:at] + chance.choice(SPARE + "=+/.% \t,\xe9") + text[at + chance.randrange(2) :]


def drop(chance: random.Random, text: str) -> str:
    at = chance.randrange(len(text))
    return text[:at] + text[at + chance.randint(1, 4) :]


def swap(chance: random.Random, text: str) -> str:
    one, other = sorted(chance.choices(range(len(text)), k=2))
    if one == other:
        return text
    return text[:one] + text[other] + text[one + 1 : other] + text[one] + text[other + 1 :]


def rearrange(chance: random.Random, text: str) -> str:
    parts = text.split(".")
    return ".".join(chance.choices(parts, k=chance.randint(1, 5)) if chance.random() < 0.5 else parts[::-1])


def graft(chance: random.Random, text: str) -> str:
    parts, others = text.split("."), chance.choice(list(VALID.values())).split(".")
    at = chance.randrange(3)
    return ".".join([*parts[:at], others[at], *parts[at + 1 :]])


def respell(chance: random.Random, text: str) -> str:
    """Return a token with its header or payload as other JSON, with another member or without one."""
    parts = text.split(".")
    at = chance.randrange(min(2, len(parts)))
    try:
        members = json.loads(base64.urlsafe_b64decode(parts[at] + "=="))
        name = chance.choice(list(members))
    except (ValueError, TypeError, IndexError):
        return replace(chance, text)
    values: list[Any] = [None, "", "none", "HS256", "own", [], {}, 0, -1, 2**70, True, OTHER, "estate", members[name]]
    members[name] = chance.choice(values)
    if chance.random() < 0.2:
        del members[name]
    parts[at] = b64(json.dumps(members, indent=chance.choice([None, 0, 1]), sort_keys=chance.random() < 0.5).encode())
    return ".".join(parts)


def reencode(chance: random.Random, text: str) -> str:
    """Return a token with the same bytes in another alphabet, padded, or with other spare bits."""
    head, _, last = text.rpartition(".")
    if chance.random() < 0.5 and last and last[-1] in SPARE:
        return f"{head}.{last[:-1]}{SPARE[SPARE.index(last[-1]) ^ chance.randint(1, 3)]}"
    return chance.choice([text + "=" * chance.randint(1, 4), text.replace("-", "+").replace("_", "/"), text.swapcase()])


MUTATIONS: tuple[Mutation, ...] = (flip, replace, drop, swap, rearrange, graft, respell, reencode)


def mutants(seed: int, number: int) -> list[str]:
    """Return tokens that differ from every valid one."""
    chance = random.Random(seed)  # noqa: S311
    valid = set(VALID.values())
    found: list[str] = []
    while len(found) < number:
        mutant = chance.choice(list(VALID.values()))
        for mutate in chance.choices(MUTATIONS, k=chance.choice([1, 1, 1, 2, 3])):
            mutant = mutate(chance, mutant) or "."
        if mutant.strip(" \t") not in valid:  # blanks around a token do not belong to it
            found.append(mutant)
    return found


@pytest.mark.parametrize("mutate", MUTATIONS)
async def test_a_mutation_takes_a_text_of_one_character(mutate: Mutation) -> None:
    for seed in range(100):
        mutate(random.Random(seed), ".")  # noqa: S311


@pytest.mark.timeout(20)
async def test_none_of_9000_mutations_is_verified(guarded: Guarded) -> None:
    seed = random.getrandbits(32)  # pytest-randomly's own seed sets it
    for mutant in mutants(seed, 9000):
        try:
            outcome: Any = await guarded.verifier.authenticate(f"Bearer {mutant}")
        except Exception as error:  # noqa: BLE001 - any error has to be the refusal
            outcome = error
        assert isinstance(outcome, Problem), (seed, mutant, outcome)
        assert outcome.kind.status == 401, (seed, mutant, outcome)


@pytest.mark.timeout(20)
async def test_none_of_1000_mutations_gets_further_than_the_gateway(guarded: Guarded) -> None:
    seed = random.getrandbits(32)  # pytest-randomly's own seed sets it
    for mutant in mutants(seed, 1000):
        answer = await guarded.ask(bearer(mutant))
        assert status(answer) == 400 or is_refusal(answer), (seed, mutant, answer)
    assert not guarded.seen, seed
