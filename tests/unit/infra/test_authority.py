"""Certificates from the stack's own authority, verified with OpenSSL."""

import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from infra.authority import NOT_BEFORE, authority, derived_key, issued, key_pem, pem


def verified(seed: str, host: str, certificate: x509.Certificate) -> None:
    verifier = PolicyBuilder().store(Store([authority(seed)])).build_server_verifier(x509.DNSName(host))
    verifier.verify(certificate, [])


def test_a_certificate_is_good_for_its_hosts_and_no_other() -> None:
    certificate = issued("seed", "postgres", ["postgres", "postgres.estate-local.svc"])
    verified("seed", "postgres", certificate)
    verified("seed", "postgres.estate-local.svc", certificate)
    with pytest.raises(VerificationError):
        verified("seed", "consul", certificate)


def test_another_stacks_certificate_is_refused() -> None:
    with pytest.raises(VerificationError):
        verified("seed", "postgres", issued("other", "postgres", ["postgres"]))


def test_everything_is_the_same_at_every_run_and_another_for_another_name() -> None:
    first, again = (issued("seed", "postgres", ["postgres"]) for _ in range(2))
    assert pem(first) == pem(again)
    assert key_pem(derived_key("seed", "postgres")) != key_pem(derived_key("seed", "consul"))
    assert first.serial_number != issued("seed", "postgres", ["db"]).serial_number
    assert first.serial_number != issued("seed", "postgres", ["postgres"], client=True).serial_number
    assert first.not_valid_before_utc == NOT_BEFORE


def test_openssl_takes_certificate_and_key_together(tmp_path: Path) -> None:
    (tmp_path / "tls.crt").write_text(pem(issued("seed", "postgres", ["postgres"])))
    (tmp_path / "tls.key").write_text(key_pem(derived_key("seed", "postgres")))
    context = ssl.create_default_context(cadata=pem(authority("seed")))
    context.load_cert_chain(tmp_path / "tls.crt", tmp_path / "tls.key")
