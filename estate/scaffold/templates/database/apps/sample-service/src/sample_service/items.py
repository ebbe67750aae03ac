"""Items: their rules and their SQL."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from servicekit.postgres import Connection, Postgres

from sample_service.settings import SampleServiceItems


class NewItem(BaseModel):
    """The fields of an item that a client gives."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00]*$", examples=["An example"])]
    """Text; Postgres stores every character but NUL."""


class Item(BaseModel):
    """An item, as it is stored and returned."""

    id: int
    name: str


class Items:
    """The items that the database holds.

    Args:
        database: with the table that the migrations make.
        settings: of the items.
    """

    def __init__(self, database: Postgres, settings: SampleServiceItems) -> None:
        self.database = database
        self._most = settings.most

    async def create(self, new: NewItem) -> Item:
        """Return the item that was created."""

        async def work(connection: Connection) -> Item:
            row = await connection.fetchrow(
                "INSERT INTO sample_service_items (name) VALUES ($1) RETURNING id, name", new.name
            )
            return Item(**row)

        return await self.database.run(work, repeatable=False, writes=True)

    async def newest(self) -> list[Item]:
        """Return the newest items, the newest first."""

        async def work(connection: Connection) -> list[Item]:
            rows = await connection.fetch(
                "SELECT id, name FROM sample_service_items ORDER BY id DESC LIMIT $1", self._most
            )
            return [Item(**row) for row in rows]

        return await self.database.run(work, repeatable=True)
