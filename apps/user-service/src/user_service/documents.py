"""OpenAPI documents of the API; `python -m user_service.documents FOLDER` writes them."""

import sys
from pathlib import Path
from typing import Any

import orjson
from fastapi import FastAPI
from servicekit import openapi

VERSIONS = ("v1", "v2")


def document(app: FastAPI, version: str) -> dict[str, Any]:
    """Return the document of a version."""
    return openapi.document(app, "Users", version.removeprefix("v"), f"/api/{version}/")


def write(folder: Path) -> None:
    """Write every document into a folder."""
    from servicekit.postgres import Postgres
    from servicekit.registration import Registration
    from servicekit.settings import Auth, Registry
    from servicekit.tokens import Verifier

    from user_service.cache import Cache
    from user_service.main import create_app
    from user_service.settings import UserSettings
    from user_service.users import Users

    settings = UserSettings()
    database = Postgres(settings.service.name, settings.database)
    registration = Registration(Registry(), "user-service", "", "", 0)
    app = create_app(Users(database, Cache(settings.cache, database)), registration, Verifier(Auth(required=False)))
    for version in VERSIONS:
        written = orjson.dumps(document(app, version), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
        (folder / f"{version}.json").write_bytes(written)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
