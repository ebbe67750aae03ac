import ssl
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError
from servicekit import logs
from servicekit.settings import Database
from user_service import main as service
from user_service import migrate

from infra.authority import authority, pem


def test_a_server_is_verified_by_name_where_its_authority_is_given(tmp_path: Path) -> None:
    ca = tmp_path / "ca.crt"
    ca.write_text(pem(authority("seed")))
    context = Database(ca_file=ca).tls()
    assert context
    assert (context.check_hostname, context.verify_mode) == (True, ssl.CERT_REQUIRED)
    assert len(context.get_ca_certs()) == 1, "the authority, and none of the machine's"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read: No such file"),
        (".", "cannot be read: Is a directory"),
        ("", "holds no certificate"),
        ("hunter2", "holds no certificate"),
        ("-----BEGIN CERTIFICATE-----\nhunter2\n-----END CERTIFICATE-----\n", "holds no certificate"),
    ],
)
@pytest.mark.parametrize("main", [service.main, migrate.main])
def test_an_authority_that_cannot_be_read_ends_the_start(
    main: Callable[[], None],
    content: str | None,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ca = tmp_path / "ca.crt"
    if content == ".":
        ca.mkdir()
    elif content is not None:
        ca.write_text(content)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("APP_DATABASE_CA_FILE", str(ca))
    monkeypatch.setattr(sys, "argv", ["user_service"])
    monkeypatch.setattr(logs, "configure", print)  # in place of the whole process' log
    with pytest.raises(SystemExit) as ended:
        main()
    line = capsys.readouterr().err
    assert ended.value.code == 2
    assert line.startswith("error: database.ca_file: ")
    assert line.count("\n") == 1
    assert said in line
    assert "hunter2" not in line


@pytest.mark.parametrize("value", [0, -1, float("inf"), float("nan"), 1e300, 3601, True])
@pytest.mark.parametrize("key", ["connect_timeout_s", "statement_timeout_s"])
def test_a_timeout_that_cannot_work_is_refused(key: str, value: float) -> None:
    with pytest.raises(ValidationError):
        Database.model_validate({key: value})


def test_without_an_authority_nothing_is_verified() -> None:
    assert Database().tls() is None
