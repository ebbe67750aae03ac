"""Version 1 of the API. It is frozen: openapi/v1.json is its contract."""

from typing import Annotated

import orjson
from fastapi import APIRouter, Query, Request, Response
from servicekit.preconditions import IfNoneMatch, OptionalIfMatch, etag, unchanged
from servicekit.routing import DirectRoute

from user_service.http import DIGITS, ETAG, READING, UserId, add_writing, api_router, as_id, problems, refuse_unknown
from user_service.users import LARGEST_ID, Replacement, User, Users, revision

FIELDS = tuple(User.model_fields)


def router(users: Users, prefix: str = "/api/v1/users", *, documented: bool = True) -> APIRouter:
    """Return the router of the endpoints below a path."""
    routes = api_router(prefix, documented=documented)

    @routes.get("", summary="List users", response_model=list[User], responses=problems())
    async def list_users(  # pyright: ignore[reportUnusedFunction]
        after: Annotated[int, Query(ge=0, le=LARGEST_ID, description="Users with a greater id only."), DIGITS] = 0,
        skip: Annotated[int, Query(ge=0, le=LARGEST_ID, description="How many of these to leave out."), DIGITS] = 0,
        limit: Annotated[int, Query(ge=1, le=1000, description="How many at the most."), DIGITS] = 100,
    ) -> Response:
        return Response(orjson.dumps(await users.list_after(after, skip, limit)), media_type="application/json")

    async def get_user(
        request: Request,
        user_id: UserId,
        if_match: OptionalIfMatch = None,  # noqa: ARG001 - documented
        if_none_match: IfNoneMatch = None,  # noqa: ARG001 - documented
    ) -> Response:
        refuse_unknown(request)
        row = await users.get(as_id(user_id))
        state = revision(row)
        headers = {"ETag": etag(state)}
        if unchanged(request, state):
            return Response(status_code=304, headers=headers)
        return Response(orjson.dumps({name: row[name] for name in FIELDS}), 200, headers, "application/json")

    routes.add_api_route(
        "/{user_id}",
        get_user,
        summary="Get a user",
        response_model=User,
        responses={200: {"headers": ETAG}, 304: {"description": "Not changed", "headers": ETAG}} | READING,
        route_class_override=DirectRoute,
    )
    add_writing(routes, users, User, Replacement)
    return routes
