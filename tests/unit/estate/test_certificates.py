"""The certificates that the embedded cluster makes itself, verified the way clients verify them."""

import datetime
import ipaddress
import ssl
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from estate.cluster import certificates, pki
from estate.cluster.certificates import LIFETIME, RENEWED_BEFORE_END, Authority, is_current, pem

HOSTS = ("*.myapp.com", "localhost", "127.0.0.1")
Subject = x509.DNSName | x509.IPAddress
DAY = datetime.timedelta(days=1)


def issued(hosts: Sequence[str] = HOSTS) -> tuple[Authority, x509.Certificate]:
    authority = Authority.create("an authority")
    return authority, x509.load_pem_x509_certificate(authority.issue(hosts)[0].encode())


def verify(authority: x509.Certificate, host: Subject, certificate: x509.Certificate) -> None:
    PolicyBuilder().store(Store([authority])).build_server_verifier(host).verify(certificate, [])


@pytest.mark.parametrize("host", [x509.DNSName("api.myapp.com"), x509.DNSName("localhost"),
                                  x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])  # fmt: skip
def test_a_certificate_is_good_for_each_of_its_hosts(host: Subject) -> None:
    authority, certificate = issued()
    verify(authority.certificate, host, certificate)


def test_it_is_good_for_no_other_host_or_authority() -> None:
    authority, certificate = issued()
    other, _ = issued()
    with pytest.raises(VerificationError):
        verify(authority.certificate, x509.DNSName("api.example.com"), certificate)
    with pytest.raises(VerificationError):
        verify(other.certificate, x509.DNSName("localhost"), certificate)


def test_it_is_no_clients() -> None:
    authority, certificate = issued()
    verifier = PolicyBuilder().store(Store([authority.certificate])).build_client_verifier()
    with pytest.raises(VerificationError):
        verifier.verify(certificate, [])


def test_an_authority_issues_for_ten_years_and_does_nothing_else() -> None:
    authority, certificate = issued()
    for each in (authority.certificate, certificate):
        assert each.not_valid_after_utc - each.not_valid_before_utc == LIFETIME
        assert abs(each.not_valid_before_utc - datetime.datetime.now(datetime.UTC)) < DAY
    usage = authority.certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    assert (usage.key_cert_sign, usage.crl_sign, usage.digital_signature) == (True, True, False)
    limits = authority.certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (limits.critical, limits.value.ca, limits.value.path_length) == (True, True, 0)
    with pytest.raises(x509.ExtensionNotFound):
        authority.certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage)


def test_a_server_is_nothing_but_a_server() -> None:
    _, certificate = issued()
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]
    signs = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    assert (signs.digital_signature, signs.key_cert_sign) == (True, False)
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_no_certificate_outlives_its_authority(monkeypatch: pytest.MonkeyPatch) -> None:
    authority, _ = issued()
    monkeypatch.setattr(certificates, "now", later(5 * 365 * DAY))
    certificate = x509.load_pem_x509_certificate(authority.issue(HOSTS)[0].encode())
    assert certificate.not_valid_after_utc == authority.certificate.not_valid_after_utc


def test_certificate_and_key_belong_together(tmp_path: Path) -> None:
    certificate, key = Authority.create("an authority").issue(HOSTS)
    (tmp_path / "both.pem").write_text(certificate + key)
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(tmp_path / "both.pem")


def later(by: datetime.timedelta) -> Callable[[], datetime.datetime]:
    """Return a clock that is ahead."""
    real = certificates.now
    return lambda: real() + by


def is_current_later(by: datetime.timedelta, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Return whether a certificate is current some time after it was made."""
    authority, certificate = issued()
    monkeypatch.setattr(certificates, "now", later(by))
    return is_current(pem(certificate).encode(), pem(authority.certificate).encode(), HOSTS)


@pytest.mark.parametrize("by", [0 * DAY, LIFETIME - RENEWED_BEFORE_END - DAY])
def test_a_certificate_that_lasts_stays(monkeypatch: pytest.MonkeyPatch, by: datetime.timedelta) -> None:
    assert is_current_later(by, monkeypatch)


@pytest.mark.parametrize("by", [LIFETIME - RENEWED_BEFORE_END, LIFETIME + DAY, -DAY])
def test_a_certificate_is_replaced_a_year_before_its_end(
    monkeypatch: pytest.MonkeyPatch, by: datetime.timedelta
) -> None:
    assert not is_current_later(by, monkeypatch)


def test_a_certificate_of_other_hosts_or_another_authority_is_replaced() -> None:
    authority, certificate = issued()
    other, _ = issued()
    assert not is_current(pem(certificate).encode(), pem(authority.certificate).encode(), ["localhost"])
    assert not is_current(pem(certificate).encode(), pem(other.certificate).encode(), HOSTS)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with the cluster's authority, in which all other certificates are."""
    for name in ("CLUSTER_CA", "KUBELET_CERTIFICATE", "KUBELET_KEY"):
        monkeypatch.setattr(pki, name, tmp_path / getattr(pki, name).name)
    for name, file in {"CA_CERTIFICATE": "ca.crt", "INGRESS_CERTIFICATE": "tls.crt", "INGRESS_KEY": "tls.key"}.items():
        monkeypatch.setattr(pki, name, tmp_path / "ingress" / file)
    authority = Authority.create("kubernetes")
    pki.CLUSTER_CA.write_text(pem(authority.certificate))
    pki.CLUSTER_CA.with_suffix(".key").write_text(certificates.key_pem(authority.key))  # pyright: ignore[reportArgumentType]
    return tmp_path


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_is_current_stays_as_it_is(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pki.renew()
    assert pki.is_current()
    made = contents(folder)
    pki.renew()
    assert contents(folder) == made
    assert "authority" not in capsys.readouterr().err


@pytest.mark.usefixtures("folder")
def test_an_authority_as_earlier_versions_made_it_is_replaced(capsys: pytest.CaptureFixture[str]) -> None:
    authority = trustme.CA(organization_name="estate local CA")
    certificate = authority.issue_cert(*pki.INGRESS_HOSTS)
    pki.CA_CERTIFICATE.parent.mkdir()
    authority.cert_pem.write_to_path(pki.CA_CERTIFICATE)
    certificate.cert_chain_pems[0].write_to_path(pki.INGRESS_CERTIFICATE)
    certificate.private_key_pem.write_to_path(pki.INGRESS_KEY)
    assert not pki.is_current()
    pki.renew()
    assert pki.is_current()
    assert f"clients that trusted the old one have to trust {pki.CA_CERTIFICATE}" in capsys.readouterr().err
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pki.INGRESS_CERTIFICATE, pki.INGRESS_KEY)
    assert pki.INGRESS_KEY.stat().st_mode & 0o777 == 0o600
