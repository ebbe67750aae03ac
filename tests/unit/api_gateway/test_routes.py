"""Routes that are refused, by the gateway and by the estate alike; and their file."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from api_gateway import routes
from api_gateway.directory import Directory
from api_gateway.issuing import parse_clients
from prometheus_client import REGISTRY
from pydantic import ValidationError
from servicekit.jwks import parse, parse_public
from servicekit.settings import Registry, SettingsError

from infra.settings import routes as declared

GOOD: dict[str, Any] = {"prefix": "/a"}
CORS: dict[str, Any] = {"allow_origins": ["https://app.example.com"]}
OWN = ["/livez", "/readyz", "/health", "/health/details", "/metrics", "/docs", "/docs/docs.js", "/openapi.json", "/auth",
    "/auth/token", "/auth/x/y", "/health/x"]  # fmt: skip


def validate(layer: str, values: dict[str, Any]) -> None:
    if layer == "gateway":
        routes.Route.model_validate(values | {"service": "s"})
    else:
        declared.Route.model_validate(values)


LAYERS = pytest.mark.parametrize("layer", ["gateway", "estate"])


CANNOT_WORK: list[dict[str, Any]] = [
    *(
        {"prefix": prefix}
        for prefix in [*OWN, "/", "", "a", "/a/", "//a", "/.", "/..", "/a/..", "/a/../b", "/a/./b", "/a\n"]
    ),
    {"methods": []},
    {"methods": ["GET"], "cors": CORS | {"methods": ["DELETE"]}},
    {"methods": ["POST"], "cors": CORS | {"methods": ["POST", "GET"]}},
    {"cors": CORS | {"methods": []}},
    {"attempts": True},
    {"timeout_s": True},
    {"timeout_s": float("inf")},
    {"rate_limit": {"requests": True}},
]


@LAYERS
@pytest.mark.parametrize("terms", CANNOT_WORK)
def test_a_route_that_cannot_work_is_refused(layer: str, terms: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        validate(layer, GOOD | terms)


@LAYERS
@pytest.mark.parametrize(
    "terms",
    [
        *({"prefix": prefix} for prefix in ["/healthy", "/livez-2", "/docs.v1", "/api/health", "/.well-known/x", "/a..b", "/..."]),
        {"methods": ["GET"], "cors": CORS | {"methods": ["GET", "HEAD"]}},
        {"cors": CORS | {"methods": ["DELETE"]}},
        {"cors": CORS},
    ],
)  # fmt: skip
def test_a_route_next_to_what_is_refused_is_taken(layer: str, terms: dict[str, Any]) -> None:
    validate(layer, GOOD | terms)


WRONG = [
    "", "hunter2", "- a", "null", "routes: [hunter2", "routes:\n\t- hunter2", "routes: !!bool hunter2", "routes: !!timestamp hunter2",
    "routes: !!int ''", "routes: !!map [a]", "routes: !hunter2 {}", "routes: !!python/object:os.system {}", "routes: *hunter2",
    "? [a]\n: b", "1: hunter2", "u://x:hunter2@h: 1", '{"routes": [', '{"routes": 2026-99-99}', "routes: []\n---\nroutes: []",
    "routes:\n - {prefix: /a, service: s, auth: required, auth: none}",
    '{"routes": [{"prefix": "/a", "service": "s", "auth": "required", "auth": "none"}]}',
    '{"routes": [{"prefix": "/a", "service": "s"}], "routes": [{"prefix": "/b", "service": "s"}]}',
    '{"routes": [{"prefix": "/a", "service": "s", "x:hunter2@h": 1}]}',
    '{"routes": [{"prefix": "/a", "service": "s", "timeout_s": "hunter2"}]}',
    '{"routes": [{"prefix": "/a", "service": "s", "cors": {"allow_origins": ["https://u:hunter2@h"]}}]}',
    "[" * 5000, '{"routes":' + "[" * 100_000, '{"routes": %s}' % ("9" * 5000),
    b"routes: \xff", b"\0", b"\xff\xfe\0",
]  # fmt: skip


def written(file: Path, content: str | bytes) -> None:
    file.write_bytes(content.encode() if isinstance(content, str) else content)


@pytest.mark.parametrize("content", WRONG, ids=lambda content: repr(content)[:40])
def test_a_wrong_routes_file_is_one_line_without_content(tmp_path: Path, content: str | bytes) -> None:
    file = tmp_path / "routes.json"
    written(file, content)
    with pytest.raises(SettingsError) as refused:
        routes.load(file)
    assert "\n" not in str(refused.value)
    assert "hunter2" not in str(refused.value)


def test_a_folder_or_a_link_to_nowhere_is_no_routes_file(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    for file in (tmp_path, tmp_path / "link"):
        with pytest.raises(SettingsError):
            routes.load(file)


@pytest.mark.parametrize(
    "text", ['{\n\t"routes": [{"prefix": "/a", "service": "s"}]}', "{routes: [{prefix: /a, service: s}]}"]
)
def test_routes_are_read_as_json_or_yaml(tmp_path: Path, text: str) -> None:
    (tmp_path / "routes").write_text(text)
    assert [route.prefix for route in routes.load(tmp_path / "routes").routes] == ["/a"]


def refusals() -> float:
    return REGISTRY.get_sample_value("gateway_routes_reloads_total", {"result": "refused"}) or 0


@pytest.mark.parametrize("content", WRONG, ids=lambda content: repr(content)[:40])
async def test_wrong_new_routes_are_refused_and_the_old_stay(tmp_path: Path, content: str | bytes) -> None:
    file = tmp_path / "routes.json"
    file.write_text('{"routes": [{"prefix": "/a", "service": "s"}]}')
    directory = Directory(file, Registry(address="127.0.0.1:1"))
    directory._seen = 0  # pyright: ignore[reportPrivateUsage] - as if it had another time
    written(file, content)
    before = refusals()
    await directory.look()
    assert refusals() == before + 1
    with pytest.raises(ValueError, match=r"^routes\.file: "):
        await directory.routes_are_current()
    assert [route.prefix for route in directory.table.routes] == ["/a"]


CLIENT = {"id": "a", "secret_hash": "$argon2id$hunter2", "user_id": 1, "username": "x"}
KEY = {"kty": "oct", "kid": "a", "alg": "HS256", "k": base64.urlsafe_b64encode(b"k" * 32).decode().rstrip("=")}
PUBLIC = {"kty": "OKP", "crv": "Ed25519", "kid": "a", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}


@pytest.mark.parametrize(
    ("read", "name", "entry"),
    [(parse_clients, "clients", CLIENT), (parse, "keys", KEY), (parse_public, "keys", PUBLIC)],
)
def test_one_name_for_two_is_refused(read: Any, name: str, entry: dict[str, Any]) -> None:
    assert list(read(json.dumps({name: [entry]}))) == ["a"]
    for twice in (json.dumps({name: [entry, entry]}), json.dumps({name: [entry]}).replace("{", f'{{"{name}": [], ', 1)):
        with pytest.raises(ValueError, match=r"two|twice|JWK Set") as refused:
            read(twice)
        assert "hunter2" not in str(refused.value)
