import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest
from api_gateway import documentation
from api_gateway.contents import accepts_gzip
from api_gateway.directory import Directory
from api_gateway.discovery import Instance
from api_gateway.documentation import ASSETS, DOCUMENT_LIMIT_BYTES, Documents
from api_gateway.merging import COMPONENTS, OWN, PROBLEM, Source, merge, parse, references
from api_gateway.routes import Route, RouteTable
from api_gateway.service import UpstreamService
from fastapi import FastAPI
from user_service.documents import VERSIONS

from estate.core.paths import PROJECT

TABLE = RouteTable(
    (
        Route(prefix="/users", service="user-service"),
        Route(prefix="/api", service="user-service"),
        Route(prefix="/news", service="news", auth="none"),
        Route(prefix="/mail", service="mail", auth="optional", methods=frozenset({"GET"})),
    )
)
ANSWERED = {"description": "done"}


def operation(refers_to: str = "", **more: Any) -> dict[str, Any]:
    schema = {"schema": {"$ref": f"#/components/schemas/{refers_to}"}} if refers_to else {}
    return {"responses": {"200": ANSWERED | {"content": {"application/json": schema}}}} | more


def source(service: str, paths: dict[str, Any], schemas: dict[str, Any] | None = None, version: str = "1") -> Source:
    document = {"openapi": "3.1.0", "info": {"title": "T", "version": version}, "paths": paths}
    return Source(service, parse(json.dumps(document | {"components": {"schemas": schemas or {}}}).encode()))


def schema_of(merged: dict[str, Any], path: str) -> str:
    return merged["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]["$ref"]


def test_only_what_a_route_leads_to_is_shown() -> None:
    paths = {path: {"get": operation(), "post": operation()} for path in ("/mail", "/mail/{id}", "/mails", "/users/1")}
    merged = merge([source("mail", paths)], TABLE)
    assert {path: list(item) for path, item in merged["paths"].items()} == {"/mail": ["get"], "/mail/{id}": ["get"]}


def test_what_only_hidden_operations_refer_to_is_hidden() -> None:
    schemas = {"Open": {"items": {"$ref": "#/components/schemas/Item"}}, "Item": {"type": "string"}, "Secret": {}}
    merged = merge(
        [source("news", {"/news": {"get": operation("Open")}, "/admin": {"get": operation("Secret")}}, schemas)], TABLE
    )
    assert merged["components"]["schemas"].keys() == {"Open", "Item", PROBLEM}


def test_equal_schemas_of_one_name_are_one() -> None:
    sources = [
        source(name, {f"/{name}": {"get": operation("Page")}}, {"Page": {"type": "array"}}) for name in ("news", "mail")
    ]
    merged = merge(sources, TABLE)
    assert merged["components"]["schemas"] == {"Page": {"type": "array"}} | COMPONENTS["schemas"]
    assert schema_of(merged, "/news") == schema_of(merged, "/mail") == "#/components/schemas/Page"


def test_different_schemas_of_one_name_get_names_of_their_own() -> None:
    def schemas(kind: str) -> dict[str, Any]:
        return {"Page": {"items": {"$ref": "#/components/schemas/Item"}}, "Item": {"type": kind}}

    sources = [
        source("news", {"/news": {"get": operation("Page")}}, schemas("string")),
        source("mail", {"/mail": {"get": operation("Page")}}, schemas("integer"), version="2 beta"),
    ]
    merged = merge(sources, TABLE)
    assert merged["components"]["schemas"] == {
        "news-1.Page": {"items": {"$ref": "#/components/schemas/news-1.Item"}},
        "news-1.Item": {"type": "string"},
        "mail-2-beta.Page": {"items": {"$ref": "#/components/schemas/mail-2-beta.Item"}},
        "mail-2-beta.Item": {"type": "integer"},
        **COMPONENTS["schemas"],
    }
    assert schema_of(merged, "/mail") == "#/components/schemas/mail-2-beta.Page"


def test_operations_say_their_service_and_the_token_that_their_route_wants() -> None:
    paths = {"get": operation(tags=["x"], servers=[{"url": "https://elsewhere"}], security=[{"Other": []}])}
    merged = merge([source(name, {f"/{name}": paths}) for name in ("users", "news", "mail")], TABLE)
    assert "/users" not in merged["paths"], "no service of that name has this route"
    sources = [source("user-service", {"/users": paths}), *(source(n, {f"/{n}": paths}) for n in ("news", "mail"))]
    of = {path: item["get"] for path, item in merge(sources, TABLE)["paths"].items()}
    assert {path: get["tags"] for path, get in of.items()} == {
        "/users": ["user-service"],
        "/news": ["news"],
        "/mail": ["mail"],
    }
    assert of["/users"]["security"] == [{"bearer": []}]
    assert of["/news"]["security"] == [{"Other": []}]
    assert of["/mail"]["security"] == [{"bearer": []}, {}]
    assert not any("servers" in get for get in of.values())


def test_the_gateways_own_operations_are_there() -> None:
    merged = merge([source(OWN, {"/auth/token": {"post": operation()}, "/users": {"get": operation()}})], TABLE)
    assert merged["paths"].keys() == {"/auth/token"}
    assert merged["paths"]["/auth/token"]["post"]["tags"] == [OWN]


EVERYWHERE = {"200", "414", "429", "431", "503"}
"""Statuses that every operation documents, with the one that the service declares."""
FORWARDED = EVERYWHERE | {"400", "502", "504"}


@pytest.mark.parametrize(
    ("terms", "method", "statuses"),
    [
        pytest.param({"auth": "none"}, "get", FORWARDED, id="as it is"),
        pytest.param({}, "get", FORWARDED | {"401"}, id="with a token"),
        pytest.param({"auth": "optional"}, "get", FORWARDED | {"401"}, id="with or without"),
        pytest.param({"auth": "none"}, "post", FORWARDED | {"408"}, id="with a body"),
        pytest.param({"auth": "none"}, "delete", FORWARDED | {"408"}, id="with a body that it does not want"),
        pytest.param({"auth": "none", "methods": ["GET"]}, "get", FORWARDED | {"405"}, id="for some methods"),
    ],
)
def test_an_operation_says_how_the_gateway_refuses_it(terms: dict[str, Any], method: str, statuses: set[str]) -> None:
    table = RouteTable((Route.model_validate({"prefix": "/s", "service": "s"} | terms),))
    merged = merge([source("s", {"/s": {method: operation()}})], table)
    answers = merged["paths"]["/s"][method]["responses"]
    assert answers.keys() == statuses
    for status, answer in answers.items():
        headers = answer["headers"].keys()
        assert "X-Request-ID" in headers
        assert ("Retry-After" in headers) is (status in ("429", "503"))
        assert "RateLimit" not in headers
        if status != "200":
            assert answer["content"].keys() == {"application/problem+json"}
    validate(merged)


def test_own_operations_say_how_they_are_refused() -> None:
    merged = merge([source(OWN, {"/auth/token": {"post": operation(requestBody={})}})], TABLE)
    assert merged["paths"]["/auth/token"]["post"]["responses"].keys() == EVERYWHERE | {"408", "413"}
    validate(merged)


def test_a_limited_route_says_where_its_clients_stand() -> None:
    table = RouteTable((Route.model_validate({"prefix": "/s", "service": "s", "rate_limit": {"requests": 1}}),))
    answers = merge([source("s", {"/s": {"get": operation()}})], table)["paths"]["/s"]["get"]["responses"]
    assert all({"RateLimit", "RateLimit-Policy"} <= answer["headers"].keys() for answer in answers.values())


def test_what_a_service_declares_stays() -> None:
    own: dict[str, Any] = {
        "200": {"description": "done", "headers": {"X-Request-ID": {"schema": {"const": "mine"}}}},
        "429": {"description": "mine", "content": {"text/plain": {}}},
        "503": {"$ref": "#/components/responses/Mine"},
        "default": {"description": "mine"},
    }
    answers = merge([source("news", {"/news": {"get": operation(responses=own)}})], TABLE)["paths"]["/news"]["get"][
        "responses"
    ]
    assert answers["200"]["headers"]["X-Request-ID"] == {"schema": {"const": "mine"}}
    assert answers["429"] | {"headers": {}} == own["429"] | {"headers": {}}
    assert answers["429"]["headers"].keys() == {"X-Request-ID", "Retry-After"}
    assert answers["503"] == own["503"]
    assert answers["default"]["description"] == "mine"
    assert answers.keys() == FORWARDED | {"default"}


def validate(merged: dict[str, Any]) -> None:
    """Check that every reference can be resolved."""
    for section, name in references(merged):
        assert name in merged["components"][section]


def test_an_operation_id_is_there_once() -> None:
    sources = [source(name, {f"/{name}": {"get": operation(operationId="list")}}) for name in ("news", "mail")]
    paths = merge(sources, TABLE)["paths"]
    assert [paths[path]["get"]["operationId"] for path in ("/news", "/mail")] == ["list", "mail-1.list"]


def test_both_versions_of_user_service_are_merged_with_every_reference_leading_somewhere() -> None:
    folder = PROJECT / "apps" / "user-service" / "openapi"
    sources = [Source("user-service", parse((folder / f"{version}.json").read_bytes())) for version in VERSIONS]
    merged = merge(sources, TABLE)
    assert merged["paths"].keys() == {path for of in sources for path in of.document["paths"]}
    assert merged["components"]["securitySchemes"].keys() == {"bearer"}
    assert {name for section, name in references(merged) if section == "schemas"} == merged["components"][
        "schemas"
    ].keys()
    validate(merged)


@pytest.mark.parametrize(
    "rubbish",
    [
        b"",
        b"<html>",
        b"[]",
        b'{"openapi": "3.0.3", "info": {"title": "T", "version": "1"}}',
        b'{"openapi": "3.1.0", "info": {"title": "T", "version": "1"}, "paths": {"/": {"get": []}}}',
        b'{"openapi": "3.1.0", "info": {"title": "T", "version": "1"}, "x": %b%b}' % (b"[" * 5000, b"]" * 5000),
    ],
)
def test_what_is_no_document_is_refused(rubbish: bytes) -> None:
    with pytest.raises(ValueError, match="validation error"):
        parse(rubbish)


Answers = dict[str, bytes | None]
"""Answers by path; None for one that never comes."""
Gateway = Callable[[Answers], Awaitable[Documents]]
GOOD: Answers = {
    "/openapi.json": b'{"documents": ["/v1.json"]}',
    "/v1.json": json.dumps(source("news", {"/news": {"get": operation()}}).document).encode(),
}


@pytest.fixture
async def gateway(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Gateway]:
    """Yield the documents of a gateway before a service with given answers."""
    monkeypatch.setattr(documentation, "TIMEOUT_S", 0.3)
    monkeypatch.setattr(documentation, "CACHE_S", 0.0)
    serving: list[asyncio.Task[None]] = []
    async with AsyncExitStack() as stack:

        async def start(answers: Answers) -> Documents:
            async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                serving.append(cast("asyncio.Task[None]", asyncio.current_task()))
                while head := (await reader.readline()).decode():
                    await reader.readuntil(b"\r\n\r\n")
                    body = answers.get(head.split()[1], b"")
                    if body is None:
                        await reader.read()
                    else:
                        writer.write(b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n\r\n" % (200 if body else 404, len(body)))
                        writer.write(body)
                writer.close()

            server = await asyncio.start_server(serve, "127.0.0.1", 0)
            stack.callback(server.close)
            service = UpstreamService("news")
            stack.callback(service.close)
            service.set_instances([Instance("1", "127.0.0.1", server.sockets[0].getsockname()[1])])
            directory = SimpleNamespace(table=TABLE, services={"news": service})
            return Documents(FastAPI(), cast("Directory", directory))

        yield start
    await asyncio.gather(*serving, return_exceptions=True)


async def test_a_service_shows_what_it_has(gateway: Gateway) -> None:
    merged = json.loads((await (await gateway(GOOD)).merged()).plain)
    assert merged["paths"].keys() == {"/news"}
    assert "**" not in merged["info"]["description"]


@pytest.mark.parametrize(
    "bad",
    [
        {"/openapi.json": b""},
        {"/openapi.json": None},
        {"/openapi.json": b'{"documents": ["//evil.example"]}'},
        {"/v1.json": None},
        {"/v1.json": b"{}"},
        {"/v1.json": b" " * (DOCUMENT_LIMIT_BYTES + 1)},
    ],
    ids=["no index", "silence", "another host", "silence after the index", "no document", "too large"],
)
async def test_a_service_that_is_away_is_named_and_shown_as_it_was(gateway: Gateway, bad: Answers) -> None:
    answers = GOOD | bad
    documents = await gateway(answers)
    async with asyncio.timeout(2):
        never = json.loads((await documents.merged()).plain)
        answers.update(GOOD)
        good = json.loads((await documents.merged()).plain)
        answers.update(bad)
        away = json.loads((await documents.merged()).plain)
    assert never["paths"] == {}
    assert "**news** does not tell what it can do just now; it is not shown" in never["info"]["description"]
    assert away["paths"] == good["paths"] != {}
    assert "it is shown as it was last known" in away["info"]["description"]


async def test_many_who_ask_at_once_cost_the_service_one_answer(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documentation, "CACHE_S", 60.0)
    asked: list[str] = []
    get = documentation.get

    async def counted(service: UpstreamService, path: str) -> bytes:
        asked.append(path)
        return await get(service, path)

    monkeypatch.setattr(documentation, "get", counted)
    documents = await gateway(GOOD)
    assert len(set(await asyncio.gather(*(documents.merged() for _ in range(20))))) == 1
    await documents.merged()
    assert asked == list(GOOD)


async def test_every_file_of_the_page_is_served_from_here() -> None:
    app = FastAPI(docs_url=None, openapi_url=None)
    directory = SimpleNamespace(table=TABLE, services={})
    app.include_router(documentation.router(app, cast("Directory", directory)))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as client:
        page = await client.get("/docs")
        assert page.headers["content-security-policy"].startswith("default-src 'none';")
        assert "unsafe" not in page.headers["content-security-policy"]
        names = [part.split('"')[0] for part in page.text.split('"/docs/')[1:]]
        assert set(names) == ASSETS.keys()
        for name in names:
            assert (await client.get(f"/docs/{name}")).headers["cache-control"] == "public, max-age=3600"
        assert (await client.get("/docs/docs.html")).status_code == 404
        assert (await client.get("/openapi.json")).json()["openapi"] == "3.1.0"


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    app = FastAPI(docs_url=None, openapi_url=None)
    directory = SimpleNamespace(table=TABLE, services={})
    app.include_router(documentation.router(app, cast("Directory", directory)))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as client:
        yield client


PATHS = pytest.mark.parametrize("path", ["/docs", "/docs/swagger-ui-bundle.js", "/openapi.json"])


@PATHS
async def test_the_page_is_sent_compressed_to_who_takes_that(client: httpx.AsyncClient, path: str) -> None:
    plain = await client.get(path, headers={"Accept-Encoding": "br, gzip;q=0"})
    zipped = await client.get(path, headers={"Accept-Encoding": "br;q=1.0, gzip;q=0.8, *;q=0.1"})
    assert plain.content == zipped.content
    assert "content-encoding" not in plain.headers
    assert zipped.headers["content-encoding"] == "gzip"
    assert int(zipped.headers["content-length"]) < int(plain.headers["content-length"])
    assert plain.headers["etag"] != zipped.headers["etag"]
    for answer in (plain, zipped):
        assert answer.headers["vary"] == "Accept-Encoding"
        assert answer.headers["content-type"].split(";")[0] in ("text/html", "text/javascript", "application/json")


@PATHS
@pytest.mark.parametrize("coding", ["gzip", "identity"])
async def test_what_a_browser_has_is_not_sent_again(client: httpx.AsyncClient, path: str, coding: str) -> None:
    accept = {"Accept-Encoding": coding}
    first = await client.get(path, headers=accept)
    for known in (first.headers["etag"], f'"x", W/{first.headers["etag"]}', "*"):
        again = await client.get(path, headers=accept | {"If-None-Match": known})
        assert (again.status_code, again.content) == (304, b"")
        for name in ("etag", "vary", "cache-control"):
            assert again.headers[name] == first.headers[name]
    lines = [("Accept-Encoding", coding), ("If-None-Match", '"x"'), ("If-None-Match", first.headers["etag"])]
    assert (await client.get(path, headers=lines)).status_code == 304  # RFC 9110, section 5.3
    for unknown in ('"x"', first.headers["etag"].replace("-gzip", "")[:-1] + '-other"'):
        assert (await client.get(path, headers=accept | {"If-None-Match": unknown})).status_code == 200


@pytest.mark.parametrize(
    ("accepted", "taken"),
    [
        ("", False),
        ("gzip", True),
        ("GZIP", True),
        ("x-gzip", True),
        ("*", True),
        ("deflate, gzip;q=1.0, *;q=0.5", True),
        ("gzip;q=0", False),
        ("gzip; q=0.000, *", False),
        ("*;q=0", False),
        ("gzip;q=0.001", True),
        ("identity", False),
        ("gzipped", False),
    ],
)
def test_gzip_is_sent_only_where_it_is_taken(accepted: str, *, taken: bool) -> None:
    assert accepts_gzip(accepted) is taken
