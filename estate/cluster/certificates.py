"""Certificates of TLS servers (RFC 5280), and of the authorities that issue them."""

import datetime
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self, cast

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LIFETIME = datetime.timedelta(days=3650)
"""Lifetime of a certificate: the same as that of the cluster's own, which kubeadm creates."""
RENEWED_BEFORE_END = datetime.timedelta(days=365)
NO_USAGE = dict.fromkeys(
    (
        *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
        *("key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
    ),
    False,
)


@dataclass(frozen=True)
class Authority:
    """A certificate authority with its key."""

    certificate: x509.Certificate
    key: CertificateIssuerPrivateKeyTypes

    @classmethod
    def create(cls, name: str) -> Self:
        """Create an authority that may issue only leaf certificates, not those of other authorities."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = distinguished(name)
        builder = (
            unsigned(subject, subject, key.public_key(), now() + LIFETIME)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(x509.KeyUsage(**NO_USAGE | {"key_cert_sign": True, "crl_sign": True}), critical=True)
        )
        return cls(builder.sign(key, hashes.SHA256()), key)

    @classmethod
    def read(cls, certificate: bytes, key: bytes) -> Self:
        """Read an authority from PEM."""
        loaded = serialization.load_pem_private_key(key, None)
        return cls(x509.load_pem_x509_certificate(certificate), cast("CertificateIssuerPrivateKeyTypes", loaded))

    def issue(self, hosts: Sequence[str]) -> tuple[str, str]:
        """Return a server's certificate and its key as PEM.

        Args:
            hosts: the DNS names and addresses of the server; the first is the common name.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        end = min(now() + LIFETIME, self.certificate.not_valid_after_utc)
        builder = (
            unsigned(distinguished(hosts[0]), self.certificate.subject, key.public_key(), end)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.KeyUsage(**NO_USAGE | {"digital_signature": True}), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.SubjectAlternativeName(general_names(hosts)), critical=False)
            .add_extension(authority_key_identifier(self.certificate), critical=False)
        )
        return pem(builder.sign(self.key, hashes.SHA256())), key_pem(key)


def is_current(certificate: bytes, authority: bytes, hosts: Sequence[str]) -> bool:
    """Return whether a server's certificate is as its authority would issue it now, and neither certificate expires soon.

    Args:
        certificate: the server's certificate, as PEM.
        authority: the authority's certificate, as PEM.
        hosts: the DNS names and addresses that the server's certificate must have.
    """
    server, issuer = x509.load_pem_x509_certificate(certificate), x509.load_pem_x509_certificate(authority)
    try:
        server.verify_directly_issued_by(issuer)
        usage = server.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, InvalidSignature, x509.ExtensionNotFound):
        return False
    return (
        list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]
        and list(names) == general_names(hosts)
        and all(lasts(each) for each in (server, issuer))
    )


def lasts(certificate: x509.Certificate) -> bool:
    """Return whether a certificate expires neither soon nor later than one that is issued now."""
    return now() + RENEWED_BEFORE_END < certificate.not_valid_after_utc <= now() + LIFETIME


def now() -> datetime.datetime:
    """Return the current time in whole seconds: certificates have no fractions."""
    return datetime.datetime.now(datetime.UTC).replace(microsecond=0)


def unsigned(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, end: datetime.datetime
) -> x509.CertificateBuilder:
    """Return a certificate builder with the fields that every certificate has."""
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now())
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def authority_key_identifier(authority: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    """Return the extension with which a certificate identifies its authority's key."""
    own = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own)


def distinguished(name: str) -> x509.Name:
    """Return a distinguished name with only a common name."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def general_names(hosts: Sequence[str]) -> list[x509.GeneralName]:
    """Return hosts as general names of X.509."""
    return [general_name(host) for host in hosts]


def general_name(host: str) -> x509.GeneralName:
    """Return a DNS name or an address as a general name of X.509."""
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def pem(certificate: x509.Certificate) -> str:
    """Return a certificate as PEM."""
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    """Return a private key as PEM (PKCS #8)."""
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return key.private_bytes(encoding, form, serialization.NoEncryption()).decode()
