"""Users: their form, their SQL, their endpoints."""

from typing import Annotated, Any

import asyncpg
from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from servicekit.problems import Problem

from user_service.database import Postgres

LARGEST_ID = 2**63 - 1  # bigint
UserId = Annotated[int, Path(ge=1, le=LARGEST_ID)]


class NewUser(BaseModel):
    """A user to be."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    name: str = Field(min_length=1, max_length=200, pattern=r"^[^\x00]*$")
    email: str = Field(max_length=254, pattern=r"^[^@\s\x00]+@[^@\s\x00]+\.[^@\s\x00]+$")
    age: int = Field(ge=0, le=150)


class User(BaseModel):
    """A user."""

    id: int
    name: str
    email: str
    age: int


class Users:
    """The users in the database.

    Args:
        database: that holds them.
    """

    def __init__(self, database: Postgres) -> None:
        self.database = database

    async def list(self, after: int, limit: int) -> list[User]:
        """Up to `limit` users whose id is greater than `after`, by id."""
        query = "SELECT id, name, email, age FROM users WHERE id > $1 ORDER BY id LIMIT $2"
        async with self.database.connection() as connection:
            return [user(row) for row in await connection.fetch(query, after, limit)]

    async def get(self, user_id: int) -> User:
        """One user.

        Raises:
            Problem: 404, there is no such user.
        """
        query = "SELECT id, name, email, age FROM users WHERE id = $1"
        async with self.database.connection() as connection:
            row = await connection.fetchrow(query, user_id)
        if row is None:
            raise Problem(404, "user-not-found", f"there is no user {user_id}")
        return user(row)

    async def create(self, new: NewUser) -> User:
        """The user, stored.

        Raises:
            Problem: 409, another user has the email.
        """
        query = "INSERT INTO users (name, email, age) VALUES ($1, $2, $3) RETURNING id, name, email, age"
        async with self.database.connection() as connection:
            try:
                return user(await connection.fetchrow(query, new.name, new.email, new.age))
            except asyncpg.UniqueViolationError as error:
                raise Problem(409, "email-taken", "another user has this email") from error


def user(row: Any) -> User:
    """A row as a user."""
    return User.model_construct(**dict(row))


def router(users: Users) -> APIRouter:
    """The endpoints of the first version of the API."""
    routes = APIRouter(tags=["users"])

    @routes.get("")
    async def list_users(  # pyright: ignore[reportUnusedFunction]
        after: Annotated[int, Query(ge=0, le=LARGEST_ID)] = 0, limit: Annotated[int, Query(ge=1, le=1000)] = 100
    ) -> list[User]:
        return await users.list(after, limit)

    @routes.get("/{user_id}")
    async def get_user(user_id: UserId) -> User:  # pyright: ignore[reportUnusedFunction]
        return await users.get(user_id)

    @routes.post("", status_code=201)
    async def create_user(new: NewUser, request: Request, response: Response) -> User:  # pyright: ignore[reportUnusedFunction]
        created = await users.create(new)
        response.headers["Location"] = f"{request.url.path}/{created.id}"
        return created

    return routes
