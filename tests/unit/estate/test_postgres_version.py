"""Data of one major version of Postgres is not mounted into another."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from estate.core.console import EstateError
from estate.ops import postgres_version
from estate.ops.postgres_version import refuse_other_major
from estate.stack.model import Stack

DIGEST = "sha256:" + "a" * 64


def stack_with(image: str, kind: str = "instance") -> Stack:
    settings = {"images": SimpleNamespace(postgres=image), "postgres": SimpleNamespace(kind=kind)}
    return cast("Stack", SimpleNamespace(name="local", settings=SimpleNamespace(**settings)))


@pytest.fixture
def data(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str | None:
    """Return the version of the existing data; None where no server runs."""

    def ask(_stack: Stack, *_words: str) -> str:
        if request.param is None:
            raise EstateError("pods not found")
        return f"{request.param}\n"

    monkeypatch.setattr(postgres_version, "ask", ask)
    return request.param


@pytest.mark.usefixtures("data")
@pytest.mark.parametrize("data", ["15"], indirect=True)
@pytest.mark.parametrize(
    "image", ["postgres:16", "r.io:5000/library/postgres:17.2-bookworm", f"x/postgres:14@{DIGEST}", "x/y:150"]
)
def test_another_major_version_is_refused(image: str) -> None:
    with pytest.raises(EstateError, match=r"is of Postgres 15, which .* cannot read, and nothing was changed"):
        refuse_other_major(stack_with(image))


@pytest.mark.usefixtures("data")
@pytest.mark.parametrize(
    ("data", "image", "kind"),
    [
        ("15", "postgres:15", "instance"),
        ("15", f"localhost:5000/x/postgres:15.9-alpine@{DIGEST}", "instance"),
        ("15", "postgres:bookworm", "instance"),
        ("15", f"localhost:5000/postgres@{DIGEST}", "instance"),
        ("15", "postgres:16", "cluster"),
        (None, "postgres:16", "instance"),
    ],
    indirect=["data"],
)
def test_the_same_one_and_what_is_not_known_pass(image: str, kind: Any) -> None:
    refuse_other_major(stack_with(image, kind))
