import ssl
from pathlib import Path

import pytest
from user_service.settings import Database

from infra.authority import authority, pem


def test_a_server_is_verified_by_name_where_its_authority_is_given(tmp_path: Path) -> None:
    ca = tmp_path / "ca.crt"
    ca.write_text(pem(authority("seed")))
    context = Database(ca_file=ca).tls()
    assert context
    assert (context.check_hostname, context.verify_mode) == (True, ssl.CERT_REQUIRED)
    assert len(context.get_ca_certs()) == 1, "the authority, and none of the machine's"


def test_an_authority_that_cannot_be_read_is_an_error_and_no_connection_without(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Database(ca_file=tmp_path / "absent").tls()


def test_without_an_authority_nothing_is_verified() -> None:
    assert Database().tls() is None
