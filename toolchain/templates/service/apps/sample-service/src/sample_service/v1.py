"""Version 1 of the API."""

from fastapi import APIRouter, Depends
from fastapi.security import HTTPBearer
from pydantic import BaseModel
from servicekit.problems import INVALID_TOKEN, MISSING_TOKEN, documented
from servicekit.routing import ApiRoute


class Item(BaseModel):
    """What the list holds."""

    id: int
    name: str


EXAMPLE = Item(id=1, name="An example")


def router() -> APIRouter:
    """The endpoints, which need a token."""
    scheme = HTTPBearer(auto_error=False, bearerFormat="JWT")  # documents; ApiRoute verifies
    routes = APIRouter(
        prefix="/api/v1/sample-service",
        route_class=ApiRoute,
        tags=["sample-service"],
        dependencies=[Depends(scheme)],
        responses=documented(MISSING_TOKEN, INVALID_TOKEN),
    )

    @routes.get("", summary="List what there is")
    async def list_items() -> list[Item]:  # pyright: ignore[reportUnusedFunction]
        return [EXAMPLE]

    return routes
