"""/docs and /openapi.json: one document of every operation behind the gateway, fetched from the services, and a page to try them."""

import asyncio
import logging
import mimetypes
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import orjson
from fastapi import APIRouter, FastAPI, HTTPException, Request
from fastapi.responses import Response
from pydantic import BaseModel, Field, StringConstraints
from servicekit import background, openapi

from api_gateway.connection import NotSent, UpstreamError
from api_gateway.contents import Content, content
from api_gateway.directory import Directory
from api_gateway.merging import OWN, Source, merge, parse
from api_gateway.routes import RouteTable
from api_gateway.service import UpstreamService
from api_gateway.upstream import Upstream

log = logging.getLogger(__name__)
CACHE_S = 10.0
TIMEOUT_S = 2.0
"""Seconds for all documents of a service; the services are queried concurrently."""
ATTEMPTS = 3
DOCUMENT_LIMIT_BYTES = 1024 * 1024
OURS = Path(__file__).parent / "static"
# Of the packages that bundle Swagger UI, this one follows its releases within days (5.34, with OpenAPI 3.1), and needs only FastAPI.
# fastapi-offline is as small but bundles ReDoc too, swagger-ui-py depends on Jinja and has older files, swagger-ui-bundle ends at 4.15.
SWAGGER_UI = Path(str(files("fastapi_swagger"))) / "resources"
ASSETS = {
    file.name: file
    for folder in (OURS, SWAGGER_UI)
    for file in folder.iterdir()
    if file.suffix in {".js", ".css", ".png"}
}
# The images in Swagger UI's style sheet are data: URLs; it needs neither inline scripts nor inline styles.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
SAFE = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}


class Index(BaseModel):
    """A service's response at openapi.INDEX."""

    documents: list[Annotated[str, StringConstraints(pattern=r"^(/[A-Za-z0-9._~-]+)+$")]] = Field(max_length=16)


class Documents:
    """The merged document, built on request and kept for CACHE_S.

    A service that does not respond correctly is shown with its last known documents, and is named.

    Args:
        own: app of the gateway's own endpoints.
        directory: routes and the services that they name.
    """

    def __init__(self, own: FastAPI, directory: Directory) -> None:
        self.own = own
        self.directory = directory
        self._good: dict[str, list[Source]] = {}
        self._problems: dict[str, str] = {}
        self._merged: Content
        self._good_until = 0.0
        self._flight: asyncio.Task[None] | None = None

    async def merged(self) -> Content:
        """Return the document as JSON."""
        if self._flight is None and asyncio.get_running_loop().time() >= self._good_until:
            self._flight = background.once("documentation", self._make())
        if self._flight:
            await asyncio.shield(self._flight)  # other requests wait for it as well
        return self._merged

    async def _make(self) -> None:
        try:
            services = dict(self.directory.services)
            remarks = await asyncio.gather(*(self._ask(service) for service in services.values()))
            self._good = {name: sources for name, sources in self._good.items() if name in services}
            sources = [source for name in sorted(self._good) for source in self._good[name]]
            sources.append(Source(OWN, openapi.document(self.own, "Gateway", "1", "/")))
            said = sorted(remark for remark in remarks if remark)
            # In a thread, so that no request waits for large documents.
            self._merged = await asyncio.to_thread(encoded, sources, self.directory.table, said)
        finally:
            self._good_until = asyncio.get_running_loop().time() + CACHE_S
            self._flight = None

    async def _ask(self, service: UpstreamService) -> str | None:
        """Load a service's documents; return a remark for the reader if that fails."""
        try:
            self._good[service.name] = await documents(service)
        except (UpstreamError, TimeoutError, ValueError) as error:
            reason = f"{type(error).__name__}: {error}"
            if self._problems.get(service.name) != reason:
                log.warning("A service gives no documents", extra={"upstream": service.name, "reason": reason})
            self._problems[service.name] = reason
            kept = "shown as it was last known" if service.name in self._good else "not shown"
            return f"**{service.name}** does not tell what it can do just now; it is {kept}."
        self._problems.pop(service.name, None)
        return None


def encoded(sources: Sequence[Source], table: RouteTable, remarks: Sequence[str]) -> Content:
    """Return the merged document in its encoded form."""
    return content(orjson.dumps(merge(sources, table, remarks)), "application/json")


def read(file: Path) -> Content:
    """Return a file of the page as a content."""
    return content(file.read_bytes(), mimetypes.guess_type(file.name)[0] or "application/octet-stream")


async def documents(service: UpstreamService) -> list[Source]:
    """Return a service's documents.

    Raises:
        UpstreamError: an instance does not respond correctly.
        TimeoutError: the documents did not arrive in time.
        ValueError: a response is not a valid document.
    """
    async with asyncio.timeout(TIMEOUT_S):
        index = Index.model_validate_json(await get(service, openapi.INDEX))
        return [Source(service.name, parse(await get(service, path))) for path in index.documents]


async def get(service: UpstreamService, path: str) -> bytes:
    """Return the response of an instance of a service; if one cannot be reached, try another.

    Raises:
        UpstreamError: no instance can be reached, or the response is invalid.
    """
    loop = asyncio.get_running_loop()
    tried: list[Upstream] = []
    while len(tried) < ATTEMPTS and (upstream := service.choose("least_busy", b"", tried, loop.time())):
        tried.append(upstream)
        try:
            connection = await upstream.connect()
        except NotSent:
            continue
        try:
            now = loop.time()
            connection.deadline = now + TIMEOUT_S
            head = f"GET {path} HTTP/1.1\r\nhost: {service.name}\r\naccept: application/json\r\n\r\n"
            connection.start(head.encode(), headless=False, whole=True, now=now)
            await connection.head()
            if connection.status != 200:
                raise UpstreamError(f"{path}: {connection.status} in place of 200")
            body = b""
            while piece := await connection.chunk():
                body += piece
                if len(body) > DOCUMENT_LIMIT_BYTES:
                    raise UpstreamError(f"{path}: more than {DOCUMENT_LIMIT_BYTES} bytes")
            return body
        finally:
            upstream.release(connection)
    raise NotSent("no instance can be reached")


def router(own: FastAPI, directory: Directory) -> APIRouter:
    """Return the router of the page and its document.

    Args:
        own: app of the gateway's own endpoints.
        directory: routes and the services that they name.
    """
    routes = APIRouter(include_in_schema=False)
    merged = Documents(own, directory)
    assets = {name: read(file) for name, file in ASSETS.items()}
    page = read(OURS / "docs.html")

    @routes.get("/openapi.json")
    async def document(request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]
        return (await merged.merged()).answer(request, SAFE | {"Cache-Control": "no-cache"})

    @routes.get("/docs")
    async def docs(request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]
        return page.answer(request, SAFE | {"Cache-Control": "no-cache", "Content-Security-Policy": POLICY})

    @routes.get("/docs/{name}")
    async def asset(request: Request, name: str) -> Response:  # pyright: ignore[reportUnusedFunction]
        if name not in assets:
            raise HTTPException(404)
        return assets[name].answer(request, SAFE | {"Cache-Control": "public, max-age=3600"})

    return routes
