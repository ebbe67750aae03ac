"""The stack's own certificate authority, for TLS between its components.

Keys and certificates are derived from one secret, so that every run of the program has the same ones and nothing has to be stored:
keys with HKDF (RFC 5869), signatures with deterministic ECDSA (RFC 6979).
"""

import datetime
import hashlib
from collections.abc import Sequence

import pulumi
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CURVE = ec.SECP256R1()
NOT_BEFORE = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
NOT_AFTER = datetime.datetime(2046, 1, 1, tzinfo=datetime.UTC)
"""End of the validity of all certificates. They are never renewed: another secret gives another authority."""


class Authority:
    """An issuer of certificates for the stack's components."""

    def __init__(self, seed: pulumi.Output[str]) -> None:
        """Take the secret from which keys and certificates are derived."""
        self._seed = seed
        self.certificate: pulumi.Output[str] = seed.apply(lambda known: pem(authority(known)))
        """The authority's own certificate as PEM, which clients trust."""

    def issue(self, name: str, hosts: Sequence[str], *, client: bool = False) -> dict[str, pulumi.Output[str]]:
        """Return a certificate and its key, as in a Secret of type kubernetes.io/tls, with the authority's own certificate.

        Args:
            name: common name of the certificate.
            hosts: DNS names that it is valid for.
            client: whether the server is also a client, of servers that ask for a certificate.
        """
        return {
            "ca.crt": self.certificate,
            "tls.crt": self._seed.apply(lambda seed: pem(issued(seed, name, hosts, client=client))),
            "tls.key": pulumi.Output.secret(self._seed.apply(lambda seed: key_pem(derived_key(seed, name)))),
        }


def derived_key(seed: str, name: str) -> ec.EllipticCurvePrivateKey:
    """Return the private key of a name."""
    wide = HKDF(hashes.SHA256(), length=48, salt=None, info=f"estate:{name}".encode()).derive(seed.encode())
    return ec.derive_private_key(int.from_bytes(wide) % (CURVE.group_order - 1) + 1, CURVE)


def authority(seed: str) -> x509.Certificate:
    """Return the authority's own certificate."""
    builder = (
        certificate(seed, "estate")
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(key_usage(key_cert_sign=True, crl_sign=True), critical=True)
    )
    return signed(builder, seed)


def issued(seed: str, name: str, hosts: Sequence[str], *, client: bool = False) -> x509.Certificate:
    """Return the certificate of a server; it is valid for TLS clients only if `client` is set."""
    purposes = [ExtendedKeyUsageOID.SERVER_AUTH, *([ExtendedKeyUsageOID.CLIENT_AUTH] if client else [])]
    builder = (
        certificate(seed, name, *hosts, *(purpose.dotted_string for purpose in purposes))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(key_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts]), critical=False)
    )
    return signed(builder, seed)


def certificate(seed: str, name: str, *differs: str) -> x509.CertificateBuilder:
    """Return a builder with the fields of every certificate.

    The serial number is derived from the name and from what differs between two certificates of that name.
    """
    public = derived_key(seed, name).public_key()
    ca = derived_key(seed, "estate").public_key()
    serial = int.from_bytes(hashlib.sha256(f"{seed}:{name}:{','.join(differs)}".encode()).digest()[:16])
    return (
        x509.CertificateBuilder()
        .subject_name(distinguished(name))
        .issuer_name(distinguished("estate"))
        .public_key(public)
        .serial_number(serial)
        .not_valid_before(NOT_BEFORE)
        .not_valid_after(NOT_AFTER)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca), critical=False)
    )


def signed(builder: x509.CertificateBuilder, seed: str) -> x509.Certificate:
    """Return the certificate, signed by the authority."""
    return builder.sign(derived_key(seed, "estate"), hashes.SHA256(), ecdsa_deterministic=True)


def distinguished(name: str) -> x509.Name:
    """Return a distinguished name that has only a common name."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def key_usage(*, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False) -> x509.KeyUsage:
    """Return a key usage extension with no other usages than those given."""
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )


def pem(of: x509.Certificate) -> str:
    """Return a certificate as PEM."""
    return of.public_bytes(serialization.Encoding.PEM).decode()


def key_pem(of: ec.EllipticCurvePrivateKey) -> str:
    """Return a private key as PEM (PKCS #8)."""
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return of.private_bytes(encoding, form, serialization.NoEncryption()).decode()
