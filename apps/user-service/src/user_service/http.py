"""The common part of both versions of the API: parameters, headers, and the operations that write."""

from typing import Annotated, Any, cast
from urllib.parse import unquote_to_bytes

import orjson
from annotated_types import Interval
from fastapi import APIRouter, Depends, Header, Path, Request, Response
from fastapi.security import HTTPBearer
from pydantic import BaseModel, BeforeValidator
from servicekit.preconditions import Wanted, etag
from servicekit.problems import (
    BODY_TOO_LARGE,
    ERRORS_LIMIT,
    HEAD_TOO_LARGE,
    INVALID_FIELDS,
    INVALID_TOKEN,
    MALFORMED_HEADER,
    MALFORMED_JSON,
    MALFORMED_PATH,
    MISSING_TOKEN,
    PRECONDITION_FAILED,
    PRECONDITION_REQUIRED,
    TARGET_TOO_LONG,
    UNAVAILABLE,
    UNSUPPORTED_MEDIA_TYPE,
    Kind,
    Problem,
    documented,
)
from servicekit.routing import ApiRoute

from user_service.cache import Row
from user_service.users import (
    EMAIL_TAKEN,
    KEY_REUSED,
    LARGEST_ID,
    USER_NOT_FOUND,
    NewUser,
    Replacement,
    UserChange,
    Users,
    revision,
)

ETAG = {
    "ETag": {
        "description": "Names this state of the user.",
        "schema": {"type": "string", "examples": ['"1-20260101000000000"']},
    }
}
LOCATION = {"Location": {"description": "Where the user is.", "schema": {"type": "string", "format": "uri-reference"}}}


MERGE_PATCH = {"schema": {"$ref": "#/components/schemas/UserChange"}}


def decimal(text: Any) -> Any:
    """Return the value, unless it is a text other than ASCII digits: no sign, space, underscore, fraction or digits of other scripts.

    Raises:
        ValueError: it is such a text.
    """
    if isinstance(text, str) and not (text.isascii() and text.isdigit()):
        raise ValueError("send digits only")
    return text


DIGITS = BeforeValidator(decimal)
"""Validator of a whole number in a path or query; placed after its bounds, so that the document shows them."""
UserId = Annotated[int, Interval(ge=1, le=LARGEST_ID), DIGITS, Path(examples=[1])]
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        pattern=r"^[\x21-\x7e]+$",
        description="Names this creation: the same key again gets the first answer. Kept for 24 hours at least.",
        examples=["0190c6b3-5f5e-7cc3-9d3f-2f8f0a4c8a11"],
    ),
]


def as_id(text: Any) -> int:
    """Return the id in a path, for routes that FastAPI does not validate.

    Raises:
        Problem: 400, the text is not an id.
    """
    if text.isascii() and text.isdigit() and len(text) <= 19 and 1 <= (user_id := int(text)) <= LARGEST_ID:
        return user_id
    raise Problem(MALFORMED_PATH, f"an id is a whole number from 1 to {LARGEST_ID}")


def refuse_unknown(request: Request) -> None:
    """Refuse unknown and repeated parameters: a parameter that is ignored is a mistake that goes unnoticed.

    Raises:
        Problem: 422, with the known parameters; or the query is not UTF-8 text (RFC 3986, section 2.5).
    """
    try:
        unquote_to_bytes(request.scope["query_string"]).decode()
    except UnicodeDecodeError as error:
        raise Problem(INVALID_FIELDS, "the query is not percent-encoded UTF-8") from error
    sent = [name for name, _ in request.query_params.multi_items()]
    if not sent:
        return
    known = sorted(field.alias for field in request.scope["route"].dependant.query_params)
    unknown = f"there is no such parameter; there are: {', '.join(known) or 'none'}"
    wrong = [{"field": name, "problem": unknown} for name in dict.fromkeys(sent) if name not in known]
    wrong += [{"field": name, "problem": "send it once"} for name in known if sent.count(name) > 1]
    if wrong:
        raise Problem(INVALID_FIELDS, "some parameters are unknown or sent twice", errors=wrong[:ERRORS_LIMIT])


def problems(*kinds: Kind) -> dict[int | str, dict[str, Any]]:
    """Return the responses for the problems of an operation, including those that all operations have."""
    of_all = {
        MALFORMED_HEADER,
        MISSING_TOKEN,
        INVALID_TOKEN,
        UNAVAILABLE,
        INVALID_FIELDS,
        TARGET_TOO_LONG,
        HEAD_TOO_LARGE,
    }
    return documented(*of_all, *kinds)


READING = problems(MALFORMED_PATH, USER_NOT_FOUND, PRECONDITION_FAILED)
BODY = (MALFORMED_JSON, BODY_TOO_LARGE, UNSUPPORTED_MEDIA_TYPE)
CHANGING = (MALFORMED_PATH, USER_NOT_FOUND, PRECONDITION_FAILED, PRECONDITION_REQUIRED, BODY_TOO_LARGE)


def api_router(prefix: str, *, documented: bool) -> APIRouter:
    """Return a router of operations below a path, which require a token."""
    scheme = HTTPBearer(auto_error=False, bearerFormat="JWT")  # for the document; ApiRoute verifies tokens
    return APIRouter(
        prefix=prefix,
        route_class=ApiRoute,
        tags=["users"],
        dependencies=[Depends(scheme), Depends(refuse_unknown)],
        include_in_schema=documented,
    )


def add_writing(routes: APIRouter, users: Users, model: type[BaseModel], replacement: type[Replacement]) -> None:
    """Add the operations that write.

    Args:
        routes: router to add them to.
        users: users that they change.
        model: model of a user in their responses; its fields are columns of a row.
        replacement: model of PUT's body: all that `model` shows.
    """
    shown = tuple(model.model_fields)

    def show(row: Row, status: int = 200, headers: dict[str, str] | None = None) -> Response:
        """Return the response with a user, exactly as GET returns it."""
        content = orjson.dumps({name: row[name] for name in shown})
        return Response(content, status, {"ETag": etag(revision(row)), **(headers or {})}, "application/json")

    @routes.post(
        "",
        status_code=201,
        summary="Create a user",
        response_model=model,
        responses={201: {"headers": ETAG | LOCATION}} | problems(*BODY, EMAIL_TAKEN, KEY_REUSED),
    )
    async def create_user(  # pyright: ignore[reportUnusedFunction]
        new: NewUser, request: Request, idempotency_key: IdempotencyKey = None
    ) -> Response:
        owner = request.app.state.verifier.owner(request.state.claims)
        row = await users.create(new, owner, idempotency_key)
        return show(row, 201, {"Location": f"{request.scope['path']}/{row['id']}"})

    changed = {200: {"headers": ETAG}} | problems(*CHANGING, *BODY, EMAIL_TAKEN)

    @routes.put("/{user_id}", summary="Replace a user", response_model=model, responses=changed)
    async def replace_user(  # pyright: ignore[reportUnusedFunction]
        user_id: UserId,
        new: replacement,  # pyright: ignore[reportInvalidTypeForm, reportUnknownParameterType] - FastAPI reads it
        when: Wanted,
    ) -> Response:
        become = cast("Replacement", new)
        if "id" in become.model_fields_set and become.id != user_id:
            wrong = [{"field": "id", "problem": f"it is {user_id} in the path"}]
            raise Problem(INVALID_FIELDS, "a user's id does not change", errors=wrong)
        values = become.model_dump(include=set(NewUser.model_fields))
        return show(await users.update(user_id, values, when))

    @routes.patch(
        "/{user_id}",
        summary="Change a user",
        response_model=model,
        responses=changed,
        openapi_extra={"requestBody": {"content": {"application/merge-patch+json": MERGE_PATCH}}},
    )
    async def change_user(  # pyright: ignore[reportUnusedFunction]
        user_id: UserId, change: UserChange, when: Wanted
    ) -> Response:
        values = change.model_dump(exclude_unset=True)
        return show(await users.update(user_id, values, when))

    @routes.delete("/{user_id}", status_code=204, summary="Delete a user", responses=problems(*CHANGING))
    async def delete_user(user_id: UserId, when: Wanted) -> None:  # pyright: ignore[reportUnusedFunction]
        await users.delete(user_id, when)
