"""The table of a service from `estate new service`, on a real Postgres."""

import os
import re
import signal
import subprocess
import sys
import textwrap
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from estate.core.paths import PROJECT
from estate.scaffold.new_service import Wanted, render
from tests.support.backends import OWNER, Postgres, Server, until

NAME = "orders"  # as on the page


def shown(module: str) -> str:
    """Return a module of orders as docs/new-service.md shows it."""
    page = (PROJECT / "docs" / "new-service.md").read_text().partition("## Jobs and workers")[2]
    _, job, worker = re.findall(r"```python\n(.*?)```", page.partition("\n## ")[0], re.DOTALL)
    return textwrap.dedent({"tidy": job, "mailer": worker}[module])


@pytest.fixture
def made(folder: Path, postgres: Postgres, tmp_path: Path) -> Iterator[Server]:
    """Yield a process of the service, on a database of its own."""
    render(Wanted(NAME, database=True), tmp_path)
    for module in ("tidy", "mailer"):
        (tmp_path / "apps" / NAME / "src" / NAME / f"{module}.py").write_text(shown(module))
    database = f"made_{uuid.uuid4().hex}"
    postgres.ask(f"CREATE DATABASE {database} OWNER {OWNER}", "postgres", "postgres")
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(tmp_path / "apps" / NAME / "src"),
        "APP_SERVER_HOST": "127.0.0.1",
        "APP_SERVER_PORT": "{port}",
        "APP_AUTH_REQUIRED": "false",
        "APP_SERVICE_REGISTRY_ADDRESS": "127.0.0.1:1",
        "APP_DATABASE_HOST": "127.0.0.1",
        "APP_DATABASE_PORT": str(postgres.port),
        "APP_DATABASE_USERNAME": OWNER,
        "APP_DATABASE_NAME": database,
        "APP_ITEMS_MOST": "2",
        "TMPDIR": str(tmp_path),
    }
    server = Server([sys.executable, "-m", NAME], environment, folder, folder / f"{database}.log")
    migrate = [sys.executable, "-m", f"{NAME}.migrate"]
    done = subprocess.run(migrate, env=server.environment, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    server.start()
    server.await_ready()
    yield server
    server.stop()


def test_what_was_created_is_in_the_list_the_newest_first(made: Server) -> None:
    with httpx.Client(base_url=f"http://127.0.0.1:{made.port}") as client:
        for name in ("a", "\U0001f600", "'; DROP TABLE orders_items"):
            assert client.post(f"/api/v1/{NAME}", json={"name": name}).status_code == 201
        found = client.get(f"/api/v1/{NAME}")
        assert (found.status_code, [item["id"] for item in found.json()]) == (200, [3, 2])
        assert client.get("/readyz").status_code == 200
        assert "orders_lists_total 1.0" in client.get("/metrics").text


def test_a_job_as_the_page_has_it_works_on_the_table(made: Server, postgres: Postgres) -> None:
    database = made.environment["APP_DATABASE_NAME"]
    postgres.ask("INSERT INTO orders_items (name) SELECT 'a' FROM generate_series(1, 1003)", database=database)
    command = [sys.executable, "-m", f"{NAME}.tidy"]
    done = subprocess.run(command, env=made.environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert postgres.ask("SELECT min(id), count(*) FROM orders_items", database=database) == "4|1000"


def test_a_worker_as_the_page_has_it_goes_on_until_it_is_ended(made: Server, tmp_path: Path) -> None:
    command = [sys.executable, "-m", f"{NAME}.mailer"]
    with subprocess.Popen(command, env=made.environment, stdout=-1, stderr=-2, text=True) as process:
        until(lambda: process.poll() is not None or (tmp_path / "heartbeat").exists(), "the worker runs")
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=60)
    assert (process.returncode, said) == (0, "")
