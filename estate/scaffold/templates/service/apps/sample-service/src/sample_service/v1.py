"""Version 1 of the API."""

#: calls
from collections.abc import Mapping

#: end
from fastapi import APIRouter, Depends
#: calls
from fastapi import Request, Response
#: end
from fastapi.security import HTTPBearer
from prometheus_client import Counter
#: database
from servicekit.problems import INVALID_FIELDS, INVALID_TOKEN, MALFORMED_JSON, MISSING_TOKEN, UNAVAILABLE, documented
#: else
from pydantic import BaseModel
from servicekit.problems import INVALID_TOKEN, MISSING_TOKEN, documented
#: end
#: calls
from servicekit.calling import Callee
from servicekit.problems import BAD_ANSWER, UNAVAILABLE
#: end
from servicekit.routing import ApiRoute
#: database

from sample_service.items import Item, Items, NewItem
#: end

LISTS = Counter("sample_service_lists", "Lists that were asked for")
#: database
#: else


class Item(BaseModel):
    """An item, as the API returns it."""

    id: int
    name: str


EXAMPLE = Item(id=1, name="An example")
#: end


def router(
    #: database
    items: Items,
    #: end
    #: calls
    callees: Mapping[str, Callee],
    #: end
) -> APIRouter:
    """Return the endpoints; each needs a token."""
    scheme = HTTPBearer(auto_error=False, bearerFormat="JWT")  # documents; ApiRoute verifies
    routes = APIRouter(
        prefix="/api/v1/sample-service",
        route_class=ApiRoute,
        tags=["sample-service"],
        dependencies=[Depends(scheme)],
        responses=documented(MISSING_TOKEN, INVALID_TOKEN),
    )

    #: database
    @routes.get("", summary="List what there is, the newest first", responses=documented(UNAVAILABLE))
    async def list_items() -> list[Item]:  # pyright: ignore[reportUnusedFunction]
        LISTS.inc()
        return await items.newest()

    refused = documented(MALFORMED_JSON, INVALID_FIELDS, UNAVAILABLE)

    @routes.post("", status_code=201, summary="Create one", responses=refused)
    async def create_item(new: NewItem) -> Item:  # pyright: ignore[reportUnusedFunction]
        return await items.create(new)
    #: else
    @routes.get("", summary="List what there is")
    async def list_items() -> list[Item]:  # pyright: ignore[reportUnusedFunction]
        LISTS.inc()
        return [EXAMPLE]
    #: end
    #: calls

    failed = documented(UNAVAILABLE, BAD_ANSWER)
    #: end
    #: each callee

    @routes.get("/calls/callee-service", summary="What callee-service answers to the caller", responses=failed)
    async def ask_callee_service(request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]
        answer = await callees["callee-service"].call(request, "GET", "/callee-path")
        return Response(answer.body, answer.status, media_type=answer.headers.get("content-type"))
    #: end each

    return routes
