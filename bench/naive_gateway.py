"""A gateway as it is often written: FastAPI, httpx, and a decorated middleware; for `python -m bench.gateway`."""

import os
import uuid
from collections.abc import Awaitable, Callable

import httpx
import uvicorn
from fastapi import FastAPI, Request, Response

app = FastAPI()
client = httpx.AsyncClient(base_url=os.environ["UPSTREAM"])


@app.middleware("http")
async def request_id(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    """Give every response an id."""
    answer = await call_next(request)
    answer.headers["X-Request-ID"] = str(uuid.uuid4())
    return answer


@app.api_route("/{path:path}", methods=["GET"])
async def forward(path: str, request: Request) -> Response:
    """Forward a request to the upstream."""
    answer = await client.request(request.method, f"/{path}", params=request.query_params)
    return Response(answer.content, answer.status_code, media_type=answer.headers.get("content-type"))


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(os.environ["PORT"]), access_log=False, log_level="warning")
