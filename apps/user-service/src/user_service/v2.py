"""Version 2 of the API: users with their times, listed page by page, and their profiles."""

import base64
import binascii
import urllib.parse
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Query, Request, Response
from pydantic import AwareDatetime, BaseModel, Field, TypeAdapter, ValidationError
from servicekit.preconditions import IfNoneMatch, OptionalIfMatch, etag, unchanged
from servicekit.problems import Kind, Problem

from user_service.cache import Row
from user_service.http import DIGITS, ETAG, READING, UserId, add_writing, api_router, problems
from user_service.users import COLUMNS, FOLDED, LARGEST_ID, Replacement, User, Users, address, revision, rfc3339

MALFORMED_CURSOR = Kind(400, "malformed-cursor", "The cursor is none of this list")


class UserWithTimes(User):
    """A user, and since when."""

    created_at: datetime = Field(examples=["2026-01-01T00:00:00.000Z"])
    updated_at: datetime = Field(examples=["2026-01-01T00:00:00.000Z"])


class ReplacementWithTimes(Replacement):
    """A user as it is to become, in the form that GET shows."""

    created_at: str = Field(default_factory=str, description="Ignored: it does not change.")
    updated_at: str = Field(default_factory=str, description="Ignored: it becomes now.")


class Page(BaseModel):
    """Some of the users that were asked for."""

    items: list[UserWithTimes]
    next: str | None = Field(
        description="Where the next page is; null on the last one. The Link header says the same.",
        examples=["/api/v2/users?limit=100&cursor=WyJpZCIsMSwxXQ"],
    )


class Profile(BaseModel):
    """A user as others see them."""

    user_id: int = Field(ge=1, examples=[1])
    display_name: str = Field(examples=["Ada Lovelace"])
    initials: str = Field(examples=["AL"])
    member_since: datetime = Field(examples=["2026-01-01T00:00:00.000Z"])


class Sort(StrEnum):
    """Orders of the list; with a minus the other way round."""

    ID = "id"
    ID_DOWN = "-id"
    NAME = "name"
    NAME_DOWN = "-name"
    EMAIL = "email"
    EMAIL_DOWN = "-email"
    CREATED_AT = "created_at"
    CREATED_AT_DOWN = "-created_at"

    @property
    def field(self) -> str:
        """Return the field to sort by."""
        return self.removeprefix("-")

    @property
    def down(self) -> bool:
        """Return whether the order is descending."""
        return self.startswith("-")


EXPRESSIONS = {"id": "{}", "name": "{}", "email": FOLDED, "created_at": "{}"}
"""SQL expressions to sort by, for a field or for a cursor's value of it; each has an index together with the id."""
LastId = Annotated[int, Field(ge=0, le=LARGEST_ID)]
CURSOR: dict[str, TypeAdapter[Any]] = {
    "id": TypeAdapter(tuple[str, LastId, LastId]),
    "name": TypeAdapter(tuple[str, str, LastId]),
    "email": TypeAdapter(tuple[str, str, LastId]),
    "created_at": TypeAdapter(tuple[str, AwareDatetime, LastId]),
}
"""Content of a cursor: the order, and the sorted field and id of the last user of its page."""
TEXT: dict[str, Any] = {"max_length": 254, "pattern": r"^[^\x00]*$"}
"""Constraints of a text in a query; Postgres cannot store NUL."""
FIELDS = tuple(UserWithTimes.model_fields)


def router(users: Users) -> APIRouter:
    """Return the router of the endpoints."""
    routes = api_router("/api/v2/users", documented=True)

    @routes.get(
        "",
        summary="Find users",
        response_model=Page,
        responses={200: {"headers": {"Link": {"description": "rel=next", "schema": {"type": "string"}}}}}
        | problems(MALFORMED_CURSOR),
    )
    async def find_users(  # pyright: ignore[reportUnusedFunction]
        request: Request,
        limit: Annotated[int, Query(ge=1, le=1000, description="How many a page."), DIGITS] = 100,
        cursor: Annotated[str | None, Query(description="From `next` of the page before.", max_length=2000)] = None,
        email: Annotated[str | None, Query(description="Of this address, whatever the case of A to Z.", **TEXT)] = None,
        name: Annotated[
            str | None,
            Query(
                description="Whose name begins so. Letters are compared in lower case, each alone: SS is not ß.",
                **TEXT,
            ),
        ] = None,
        sort: Annotated[Sort, Query(description="By what.")] = Sort.ID,
    ) -> Response:
        query, values = select(sort, None if cursor is None else decode(cursor, sort), email, name, limit + 1)
        rows = await users.page(query, values)
        link = None
        if len(rows) > limit:
            rows.pop()
            after = {"cursor": encode(sort, rows[-1][sort.field], rows[-1]["id"])}
            link = f"{request.scope['path']}?{urllib.parse.urlencode({**request.query_params, **after})}"
        page = {"items": [{field: row[field] for field in FIELDS} for row in rows], "next": link}
        headers = {"Link": f'<{link}>; rel="next"'} if link else {}
        return Response(orjson.dumps(page), 200, headers, "application/json")

    one = {200: {"headers": ETAG}, 304: {"description": "Not changed", "headers": ETAG}} | READING

    @routes.get("/{user_id}", summary="Get a user", response_model=UserWithTimes, responses=one)
    async def get_user(  # pyright: ignore[reportUnusedFunction]
        request: Request,
        user_id: UserId,
        if_match: OptionalIfMatch = None,  # noqa: ARG001 - documented
        if_none_match: IfNoneMatch = None,  # noqa: ARG001 - documented
    ) -> Response:
        row = await users.get(user_id)
        return conditional(request, {field: row[field] for field in FIELDS}, row)

    @routes.get("/{user_id}/profile", summary="Get a user's profile", response_model=Profile, responses=one)
    async def get_profile(  # pyright: ignore[reportUnusedFunction]
        request: Request,
        user_id: UserId,
        if_match: OptionalIfMatch = None,  # noqa: ARG001 - documented
        if_none_match: IfNoneMatch = None,  # noqa: ARG001 - documented
    ) -> Response:
        row = await users.get(user_id)
        return conditional(request, profile(row), row)

    add_writing(routes, users, UserWithTimes, ReplacementWithTimes)
    return routes


def conditional(request: Request, shown: dict[str, Any], row: Row) -> Response:
    """Return the response with a user's representation, or 304 if the client has it already."""
    state = revision(row)
    headers = {"ETag": etag(state)}
    if unchanged(request, state):
        return Response(status_code=304, headers=headers)
    return Response(orjson.dumps(shown), 200, headers, "application/json")


def profile(row: Row) -> dict[str, Any]:
    """Return a user's profile."""
    words = row["name"].split()
    initials = "".join(word[0] for word in (words[:1] + words[-1:] if len(words) > 1 else words)).upper()
    return {
        "user_id": row["id"],
        "display_name": row["name"],
        "initials": initials,
        "member_since": row["created_at"],
    }


def select(
    sort: Sort, after: tuple[Any, int] | None, email: str | None, name: str | None, limit: int
) -> tuple[str, list[Any]]:
    """Return the query of a page, and its values.

    Args:
        sort: order of the list.
        after: sorted field and id of the last user of the previous page.
        email: whole address, or None for any.
        name: beginning of the name, or None for any.
        limit: maximum number of rows.
    """
    expression, values, conditions = EXPRESSIONS[sort.field], list[Any](), list[str]()
    key = expression.format(sort.field)

    def value(given: Any) -> str:
        values.append(given)
        return f"${len(values)}"

    if email is not None:
        # The unchanged form as well: an earlier release may have stored another form.
        wanted = ", ".join(FOLDED.format(value(form) + "::text") for form in dict.fromkeys((normal(email), email)))
        conditions.append(f"{FOLDED.format('email')} IN ({wanted})")
    if name is not None:
        literal = name.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        conditions.append(f"lower(name) LIKE lower({value(literal + '%')})")
    if after is not None:
        conditions.append(
            f"({key}, id) {'<' if sort.down else '>'} ({expression.format(value(after[0]))}, {value(after[1])})"
        )
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    way = "DESC" if sort.down else "ASC"
    return f"SELECT {COLUMNS} FROM users {where} ORDER BY {key} {way}, id {way} LIMIT {value(limit)}", values


def normal(text: str) -> str:
    """Return an address in its stored form; any other text, which no user has, unchanged."""
    try:
        return address(text)
    except ValueError:
        return text


def encode(sort: Sort, key: Any, last: int) -> str:
    """Return the cursor after a user, from the user's sorted field and id."""
    return base64.urlsafe_b64encode(orjson.dumps([str(sort), key, last])).decode().rstrip("=")


def decode(cursor: str, sort: Sort) -> tuple[Any, int]:
    """Return the sorted field and the id in a cursor.

    Raises:
        Problem: 400, the cursor is malformed, or of another order.
    """
    try:
        content = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        of, key, last = CURSOR[sort.field].validate_json(content)
    except (binascii.Error, ValueError, ValidationError) as error:
        raise Problem(MALFORMED_CURSOR, "take the cursor from `next` of the page before") from error
    # Only exactly as `encode` writes it: a time in another zone may not be representable in UTC. Postgres cannot store NUL.
    is_elsewhere = isinstance(key, datetime) and key.utcoffset() != timedelta()
    written = encode(sort, rfc3339(key) if isinstance(key, datetime) else key, last)
    if is_elsewhere or of != sort or written != cursor or "\0" in str(key):
        raise Problem(MALFORMED_CURSOR, f"this cursor is not of a list that is sorted by {sort}")
    return key, last
