"""What both versions of the API share: parameters, headers, and the operations that write."""

from typing import Annotated, Any

from annotated_types import Interval
from fastapi import APIRouter, Depends, Header, Path, Request, Response
from fastapi.security import HTTPBearer
from pydantic import BaseModel, BeforeValidator
from servicekit.preconditions import IfMatch, etag, wanted
from servicekit.problems import (
    BODY_TOO_LARGE,
    INVALID_FIELDS,
    INVALID_TOKEN,
    MALFORMED_HEADER,
    MALFORMED_JSON,
    MALFORMED_PATH,
    MISSING_TOKEN,
    PRECONDITION_FAILED,
    PRECONDITION_REQUIRED,
    UNAVAILABLE,
    UNSUPPORTED_MEDIA_TYPE,
    Kind,
    Problem,
    documented,
)
from servicekit.routing import ApiRoute
from servicekit.tokens import Claims

from user_service.cache import Row
from user_service.users import EMAIL_TAKEN, KEY_REUSED, LARGEST_ID, USER_NOT_FOUND, NewUser, UserChange, Users

ETAG = {"ETag": {"description": "Names this state of the user.", "schema": {"type": "string", "examples": ['"1"']}}}
LOCATION = {"Location": {"description": "Where the user is.", "schema": {"type": "string", "format": "uri-reference"}}}


MERGE_PATCH = {"schema": {"$ref": "#/components/schemas/UserChange"}}


def decimal(text: Any) -> Any:
    """Digits only: no sign, space or fraction makes an id."""
    if isinstance(text, str) and not (text.isascii() and text.isdigit()):
        raise ValueError("an id is a whole number")
    return text


UserId = Annotated[int, Interval(ge=1, le=LARGEST_ID), BeforeValidator(decimal), Path(examples=[1])]
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
    """The id in a path, for routes that FastAPI does not validate.

    Raises:
        Problem: 400, it is none.
    """
    if text.isascii() and text.isdigit() and len(text) <= 19 and 1 <= (user_id := int(text)) <= LARGEST_ID:
        return user_id
    raise Problem(MALFORMED_PATH, f"an id is a whole number from 1 to {LARGEST_ID}")


def problems(*kinds: Kind) -> dict[int | str, dict[str, Any]]:
    """The problems of an operation, with those that all have."""
    return documented(MISSING_TOKEN, INVALID_TOKEN, UNAVAILABLE, *kinds)


READING = problems(MALFORMED_PATH, USER_NOT_FOUND)
BODY = (MALFORMED_JSON, BODY_TOO_LARGE, UNSUPPORTED_MEDIA_TYPE, INVALID_FIELDS)
CHANGING = (MALFORMED_PATH, MALFORMED_HEADER, USER_NOT_FOUND, PRECONDITION_FAILED, PRECONDITION_REQUIRED)


def api_router(prefix: str, *, documented: bool) -> APIRouter:
    """A router of operations below a path, which need a token."""
    scheme = HTTPBearer(auto_error=False, bearerFormat="JWT")  # documents; ApiRoute verifies
    return APIRouter(
        prefix=prefix,
        route_class=ApiRoute,
        tags=["users"],
        dependencies=[Depends(scheme)],
        include_in_schema=documented,
    )


def add_writing(routes: APIRouter, users: Users, model: type[BaseModel]) -> None:
    """Add the operations that write.

    Args:
        routes: to add them to.
        users: that they change.
        model: of a user, in their answers; its fields are columns of a row.
    """
    shown = tuple(model.model_fields)

    def show(row: Row, response: Response) -> dict[str, Any]:
        response.headers["ETag"] = etag(row["version"])
        return {name: row[name] for name in shown}

    @routes.post(
        "",
        status_code=201,
        summary="Create a user",
        response_model=model,
        responses={201: {"headers": ETAG | LOCATION}} | problems(*BODY, MALFORMED_HEADER, EMAIL_TAKEN, KEY_REUSED),
    )
    async def create_user(  # pyright: ignore[reportUnusedFunction]
        new: NewUser, request: Request, response: Response, idempotency_key: IdempotencyKey = None
    ) -> Any:
        claims: Claims = request.state.claims or {}
        subject = str(claims.get("sub", ""))
        row = await users.create(new, subject, idempotency_key)
        response.headers["Location"] = f"{request.url.path}/{row['id']}"
        return show(row, response)

    changed = {200: {"headers": ETAG}} | problems(*CHANGING, *BODY, EMAIL_TAKEN)

    @routes.put("/{user_id}", summary="Replace a user", response_model=model, responses=changed)
    async def replace_user(  # pyright: ignore[reportUnusedFunction]
        user_id: UserId, new: NewUser, response: Response, if_match: IfMatch
    ) -> Any:
        return show(await users.update(user_id, new.model_dump(), wanted(if_match)), response)

    @routes.patch(
        "/{user_id}",
        summary="Change a user",
        response_model=model,
        responses=changed,
        openapi_extra={"requestBody": {"content": {"application/merge-patch+json": MERGE_PATCH}}},
    )
    async def change_user(  # pyright: ignore[reportUnusedFunction]
        user_id: UserId, change: UserChange, response: Response, if_match: IfMatch
    ) -> Any:
        values = change.model_dump(exclude_unset=True)
        return show(await users.update(user_id, values, wanted(if_match)), response)

    @routes.delete("/{user_id}", status_code=204, summary="Delete a user", responses=problems(*CHANGING))
    async def delete_user(user_id: UserId, if_match: IfMatch) -> None:  # pyright: ignore[reportUnusedFunction]
        await users.delete(user_id, wanted(if_match))
