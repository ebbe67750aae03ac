import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest
from api_gateway import documentation
from api_gateway.directory import Directory
from api_gateway.discovery import Instance
from api_gateway.documentation import ASSETS, DOCUMENT_LIMIT_BYTES, Documents
from api_gateway.merging import OWN, Source, merge, parse
from api_gateway.routes import Route, RouteTable
from api_gateway.service import UpstreamService
from fastapi import FastAPI
from user_service.documents import VERSIONS

from toolchain.paths import PROJECT

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
    assert merged["components"]["schemas"].keys() == {"Open", "Item"}


def test_equal_schemas_of_one_name_are_one() -> None:
    sources = [
        source(name, {f"/{name}": {"get": operation("Page")}}, {"Page": {"type": "array"}}) for name in ("news", "mail")
    ]
    merged = merge(sources, TABLE)
    assert merged["components"]["schemas"] == {"Page": {"type": "array"}}
    assert schema_of(merged, "/news") == schema_of(merged, "/mail") == "#/components/schemas/Page"


def test_different_schemas_of_one_name_are_told_apart_with_all_that_refer_to_them() -> None:
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


def test_the_gateways_own_operations_are_there_as_they_are() -> None:
    merged = merge([source(OWN, {"/auth/token": {"post": operation()}, "/users": {"get": operation()}})], TABLE)
    assert merged["paths"] == {"/auth/token": {"post": operation(tags=[OWN])}}


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
    found = {
        part.split('"')[0].rpartition("/")[2] for part in json.dumps(merged).split('"$ref": "#/components/schemas/')[1:]
    }
    assert found == merged["components"]["schemas"].keys()


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
"""By path; None where the answer never comes."""
Gateway = Callable[[Answers], Awaitable[Documents]]
GOOD: Answers = {
    "/openapi.json": b'{"documents": ["/v1.json"]}',
    "/v1.json": json.dumps(source("news", {"/news": {"get": operation()}}).document).encode(),
}


@pytest.fixture
async def gateway(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Gateway]:
    """Documents of a gateway before a service that answers like this."""
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
    merged = json.loads(await (await gateway(GOOD)).merged())
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
        never = json.loads(await documents.merged())
        answers.update(GOOD)
        good = json.loads(await documents.merged())
        answers.update(bad)
        away = json.loads(await documents.merged())
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
