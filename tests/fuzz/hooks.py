"""Facts that fuzzing cannot learn from the documents."""

import re
import socket
import uuid
from typing import Any

import schemathesis

VALID_KEY = re.compile(r"[\x21-\x7e]{1,255}")


@schemathesis.hook  # pyright: ignore[reportUnknownMemberType, reportUntypedFunctionDecorator]
def before_call(_context: Any, case: Any, _kwargs: dict[str, Any]) -> None:
    """Make valid Idempotency-Keys unique, and set the id of a replacement to the one in the path: others are refused, as they should be."""
    headers: dict[str, Any] = case.headers or {}
    key = headers.get("Idempotency-Key")
    if key and VALID_KEY.fullmatch(key):
        headers["Idempotency-Key"] = str(uuid.uuid4())
    body: Any = case.body
    if case.method.upper() == "PUT" and isinstance(body, dict) and valid_id(body.get("id")):  # pyright: ignore[reportUnknownMemberType]
        body["id"] = case.path_parameters["user_id"]


def valid_id(given: Any) -> bool:
    """Return whether a value may be an id, as far as a schema can express it, whose numbers are floats; others are refused as they are."""
    return type(given) in (int, float) and 1 <= given <= 2**63 and given == int(given)


def to_ingress(host: Any, *rest: Any, find: Any = socket.getaddrinfo, **more: Any) -> Any:
    """Resolve every host to the Ingress on this machine, as `curl --resolve` does."""
    del host
    return find("127.0.0.1", *rest, **more)


socket.getaddrinfo = to_ingress
