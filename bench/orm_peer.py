"""The benchmarked endpoints in the usual Python style: FastAPI, a session per request, SQLAlchemy's ORM, response models."""

import json
import logging
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Annotated

import uvicorn
from fastapi import Depends, FastAPI, HTTPException, Query, Request, Response
from prometheus_client import Histogram
from pydantic import BaseModel, ConfigDict
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

DURATIONS = Histogram("http_request_duration_seconds", "Duration of requests", ["method", "endpoint", "status"])
log = logging.getLogger("request")
app = FastAPI()
engine = create_async_engine(os.environ["DATABASE_URL"], pool_size=5, max_overflow=0)
sessions = async_sessionmaker(engine, expire_on_commit=False)


class Base(DeclarativeBase):
    """Declarative base of the tables."""


class User(Base):
    """A row of the table of users."""

    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    email: Mapped[str]
    age: Mapped[int]


class Shown(BaseModel):
    """A user in a response."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    name: str
    email: str
    age: int


class Json(logging.Formatter):
    """Formatter that writes each record as a line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Return a record as a line of JSON."""
        about = record.args if isinstance(record.args, dict) else {}
        return json.dumps({"time": self.formatTime(record), "message": record.msg, **about})


@app.middleware("http")
async def observe(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
    """Log a request twice and count it, as user-service does."""
    started = time.perf_counter()
    about = {"method": request.method, "url": request.url.path}
    log.info("Request started", about)
    response = await answer(request)
    took = time.perf_counter() - started
    endpoint = getattr(request.scope.get("route"), "path", "unmatched")
    DURATIONS.labels(request.method, endpoint, response.status_code).observe(took)
    log.info("Request completed", about | {"status": response.status_code, "duration": took})
    return response


async def session() -> AsyncIterator[AsyncSession]:
    """Yield one session for each request."""
    async with sessions() as opened:
        yield opened


Session = Annotated[AsyncSession, Depends(session)]


@app.get("/api/v1/users/{user_id}", response_model=Shown)
async def get_user(user_id: int, database: Session) -> User:
    """Return one user."""
    user = await database.get(User, user_id)
    if user is None:
        raise HTTPException(404)
    return user


@app.get("/api/v1/users", response_model=list[Shown])
async def list_users(database: Session, limit: Annotated[int, Query(ge=1, le=1000)] = 100) -> list[User]:
    """Return the first users by id."""
    return list(await database.scalars(select(User).order_by(User.id).limit(limit)))


if __name__ == "__main__":
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(Json())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    uvicorn.run(
        app, port=int(os.environ["PORT"]), loop="uvloop", http="httptools", access_log=False, log_level="warning"
    )
