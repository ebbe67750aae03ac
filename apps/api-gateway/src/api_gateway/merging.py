"""Merging of OpenAPI documents into one, which has the operations that the gateway serves and nothing else."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, cast, get_args

from pydantic import BaseModel, ConfigDict, Field
from servicekit.problems import MEDIA_TYPE

from api_gateway.routes import Method, Route, RouteTable

Tree = dict[str, Any]
Name = tuple[str, str]
"""Section and name of a component."""
Rename = Callable[[Name], str]
OWN = "api-gateway"
SHARED = frozenset({"parameters", "summary", "description"})
"""Keys of a path item that apply to all its operations, except `servers`: every operation is served by the gateway."""
BEARER = {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
BODILESS = frozenset({"get", "head", "options", "trace"})
"""Methods without a request body in practice; a request of any other method may have one, whether or not the operation declares it."""
ALL_METHODS = frozenset(get_args(Method))
PROBLEM = "gateway.Problem"
REFUSALS = {
    400: "The request can be read in more than one way",
    401: "The token is missing, or not valid",
    405: "The path does not take this method",
    408: "The request did not come in time",
    413: "The body is too large",
    414: "The path and query are too long",
    429: "The client has asked too much, or has too much in flight",
    431: "The header fields are too large",
    502: "The service failed",
    503: "The service cannot be reached, or has too much in flight",
    504: "The service did not answer in time",
}
HEADERS = {
    "X-Request-ID": ("Names the request in the logs.", "string"),
    "RateLimit": ("What is left of the limit (draft-ietf-httpapi-ratelimit-headers-10).", "string"),
    "RateLimit-Policy": ("The limit.", "string"),
    "Retry-After": ("Seconds to wait.", "integer"),
    "WWW-Authenticate": ("How to send a token (RFC 6750).", "string"),
    "Allow": ("The methods that the path takes.", "string"),
}
HEADERS_OF = {"401": ["WWW-Authenticate"], "405": ["Allow"], "429": ["Retry-After"], "503": ["Retry-After"]}
COMPONENTS: dict[str, Tree] = {
    "schemas": {
        PROBLEM: {
            "type": "object",
            "description": "A problem (RFC 9457).",
            "required": ["type", "title", "status", "detail"],
            "properties": {
                "type": {"type": "string", "description": "Names the kind of problem; it does not change."},
                "title": {"type": "string"},
                "status": {"type": "integer"},
                "detail": {"type": "string"},
            },
        }
    },
    "headers": {
        f"gateway.{name}": {"description": description, "schema": {"type": kind}}
        for name, (description, kind) in HEADERS.items()
    },
}
"""Components of the gateway itself."""
REFERENCE = re.compile(r"#/components/(\w+)/([^/]+)(.*)")


class Part(BaseModel):
    """Base of every part of a document: undeclared members are kept as they are."""

    model_config = ConfigDict(extra="allow")


class Info(Part):
    """The title and version of a document."""

    title: str
    version: str


class Operation(Part):
    """An operation of a path."""

    operationId: str = ""  # noqa: N815 - as OpenAPI has it
    security: list[dict[str, list[str]]] = []


class PathItem(Part):
    """The operations of a path."""

    get: Operation | None = None
    put: Operation | None = None
    post: Operation | None = None
    delete: Operation | None = None
    options: Operation | None = None
    head: Operation | None = None
    patch: Operation | None = None
    trace: Operation | None = None


METHODS = PathItem.model_fields.keys()


class Document(Part):
    """The members of an OpenAPI document that must be valid for it to be merged."""

    openapi: str = Field(pattern=r"^3\.1\.\d+$")
    info: Info
    paths: dict[str, PathItem] = {}
    components: dict[str, dict[str, Any]] = {}
    security: list[dict[str, list[str]]] = []


@dataclass(frozen=True)
class Source:
    """A document, and the service that it describes."""

    service: str
    document: Tree


@dataclass(frozen=True)
class Share:
    """The part of a source that goes into the merged document."""

    source: Source
    label: str
    """Prefix that distinguishes its components from others of the same name."""
    paths: dict[str, Tree]
    components: dict[Name, Any]


def parse(text: bytes) -> Tree:
    """Parse a document.

    Raises:
        ValueError: it is invalid, or not of OpenAPI 3.1.
    """
    return Document.model_validate_json(text).model_dump(exclude_unset=True)


def merge(sources: Sequence[Source], table: RouteTable, remarks: Iterable[str] = ()) -> Tree:
    """Return one document of all operations that the routes lead to, and of the gateway's own.

    Args:
        sources: documents of the services; the gateway's own is that of service OWN.
        table: routes.
        remarks: remarks on the document, for its reader.
    """
    made = [shared(source, label, table) for source, label in zip(sources, labels(sources), strict=True)]
    shares = [share for share in made if share.paths]
    clashing = clashes(shares)
    paths: dict[str, Tree] = {}
    components: dict[str, Tree] = {}
    titles: dict[str, list[str]] = {}
    ids: set[str] = set()
    for share in shares:

        def rename(name: Name, label: str = share.label) -> str:
            return f"{label}.{name[1]}" if name in clashing else name[1]

        info = share.source.document["info"]
        titles.setdefault(share.source.service, []).append(f"{info['title']} {info['version']}")
        for path, item in share.paths.items():
            for key, value in renamed(item, rename).items():
                if key in METHODS and (operation_id := value.get("operationId")):
                    if operation_id in ids:
                        value["operationId"] = f"{share.label}.{operation_id}"
                    ids.add(operation_id)
                paths.setdefault(path, {}).setdefault(key, value)
        for name, content in share.components.items():
            components.setdefault(name[0], {})[rename(name)] = renamed(content, rename)
    components.setdefault("securitySchemes", {})["bearer"] = BEARER
    description = "\n\n".join(["Every operation that the gateway leads to.", *remarks])
    return {
        "openapi": "3.1.0",
        "info": {"title": "API", "version": "1", "description": description},
        "servers": [{"url": "/"}],
        "tags": [{"name": service, "description": ", ".join(of)} for service, of in titles.items()],
        "paths": paths,
        "components": components,
    }


def labels(sources: Sequence[Source]) -> list[str]:
    """Return a label for each source: its service and version, with a number where these are not unique."""
    names = [f"{source.service}-{source.document['info']['version']}" for source in sources]
    plain = [re.sub(r"[^A-Za-z0-9._-]", "-", name) for name in names]
    return [f"{name}-{number}" if name in plain[:number] else name for number, name in enumerate(plain)]


def shared(source: Source, label: str, table: RouteTable) -> Share:
    """Return the operations of a source that the gateway serves, and the components that they need."""
    document = source.document
    paths: dict[str, Tree] = {}
    for path, item in document.get("paths", {}).items():
        route = table.find(path)
        if (route.service if route else OWN) != source.service:
            continue
        operations = {
            method: described(method, operation, source, route)
            for method in METHODS
            if (operation := item.get(method)) and (not route or method.upper() in route.methods)
        }
        if operations:
            paths[path] = {key: item[key] for key in item.keys() & SHARED} | operations
    return Share(source, label, paths, reached(paths, with_own(document.get("components", {}))))


def with_own(components: dict[str, Tree]) -> dict[str, Tree]:
    """Return a document's components and those of the gateway."""
    return components | {section: components.get(section, {}) | own for section, own in COMPONENTS.items()}


def described(method: str, operation: Tree, source: Source, route: Route | None) -> Tree:
    """Return an operation with its service as its tag, and with the token that its route requires."""
    made = {key: value for key, value in operation.items() if key != "servers"} | {"tags": [source.service]}
    made["responses"] = answers(method, operation, route)
    if route and route.auth != "none":
        made["security"] = [{"bearer": []}, *([{}] if route.auth == "optional" else [])]
    elif "security" not in made and "security" in source.document:
        made["security"] = source.document["security"]
    return made


def answers(method: str, operation: Tree, route: Route | None) -> Tree:
    """Return the responses of an operation: those that its service declares and the gateway's, with the headers that the gateway adds."""
    declared: Tree = operation.get("responses", {})
    added = {str(status): refusal(status) for status in refused(method, route)}
    every = ["X-Request-ID", *(["RateLimit", "RateLimit-Policy"] if route and route.rate_limit else [])]
    # A status code takes precedence over a range of them and over `default`, regardless of their order.
    return {
        status: with_headers(answer, HEADERS_OF.get(status, []), every) for status, answer in (added | declared).items()
    }


def refused(method: str, route: Route | None) -> Iterable[int]:
    """Yield the statuses with which the gateway refuses an operation, or reports that its service failed."""
    yield from (414, 429, 431, 503)
    if method not in BODILESS:
        yield 408
        if route is None:
            yield 413
    if route:
        yield from (400, 502, 504)
        if route.auth != "none":
            yield 401
        if route.methods != ALL_METHODS:
            yield 405


def refusal(status: int) -> Tree:
    """Return the description of a refusal by the gateway, a problem (RFC 9457)."""
    problem = {"schema": {"$ref": f"#/components/schemas/{PROBLEM}"}}
    return {"description": REFUSALS[status], "content": {MEDIA_TYPE: problem}}


def with_headers(answer: Tree, *names: Iterable[str]) -> Tree:
    """Return a response with headers that the gateway adds; existing ones stay as they are."""
    if "$ref" in answer:
        return answer
    added = {name: {"$ref": f"#/components/headers/{component(name)}"} for name in chain(*names)}
    return answer | {"headers": added | answer.get("headers", {})}


def component(name: str) -> str:
    """Return the name of a component of the gateway, which no service's component has."""
    return f"gateway.{name}"


def reached(paths: Tree, components: dict[str, Tree]) -> dict[Name, Any]:
    """Return the components that paths refer to, directly or indirectly: the others may describe internal operations."""
    found: dict[Name, Any] = {}
    open_names = references(paths)
    while open_names:
        section, name = key = open_names.pop()
        if key not in found and name in components.get(section, {}):
            found[key] = components[section][name]
            open_names |= references(found[key])
    return dict(sorted(found.items()))


def clashes(shares: Sequence[Share]) -> set[Name]:
    """Return the components that share a name but differ, even if only in the components that they refer to."""
    contents: dict[Name, list[Any]] = {}
    for share in shares:
        for name, content in share.components.items():
            contents.setdefault(name, []).append(content)
    common = {name: found for name, found in contents.items() if len(found) > 1}
    clashing = {name for name, found in common.items() if any(content != found[0] for content in found)}
    while more := {name for name in common.keys() - clashing if references(common[name][0]) & clashing}:
        clashing |= more
    return clashing


def references(tree: Any) -> set[Name]:
    """Return the components that a part of a document refers to."""
    found: set[Name] = set()

    def note(name: Name) -> str:
        found.add(name)
        return name[1]

    renamed(tree, note)
    return found


def renamed(tree: Any, rename: Rename) -> Any:
    """Return a copy of a part of a document with renamed references: those by path, and the names in `security`."""
    if isinstance(tree, str):
        found = REFERENCE.fullmatch(tree)
        return f"#/components/{found[1]}/{rename((found[1], found[2]))}{found[3]}" if found else tree
    if isinstance(tree, list):
        return [renamed(item, rename) for item in cast("list[Any]", tree)]
    if isinstance(tree, dict):
        made = {key: renamed(value, rename) for key, value in cast("Tree", tree).items()}
        if isinstance(needs := made.get("security"), list):
            made["security"] = [
                {rename(("securitySchemes", name)): scopes for name, scopes in need.items()}
                for need in cast("list[Tree]", needs)
                if isinstance(need, dict)  # pyright: ignore[reportUnnecessaryIsInstance] - an example can hold anything
            ]
        return made
    return tree
