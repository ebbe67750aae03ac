"""The stack's own certificate authority, for what its parts say to each other.

Keys and certificates follow from one secret, so that every run of the program has the same, and nothing has to be kept:
keys by HKDF (RFC 5869), signatures by deterministic ECDSA (RFC 6979).
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
"""Nobody renews a certificate in the night: another secret is another authority."""


class Authority:
    """Issues certificates to the stack's parts."""

    def __init__(self, seed: pulumi.Output[str]) -> None:
        """Take the secret from which everything follows."""
        self._seed = seed
        self.certificate: pulumi.Output[str] = seed.apply(lambda known: pem(authority(known)))
        """Its own, as PEM: what a client trusts."""

    def issue(self, name: str, hosts: Sequence[str], *, client: bool = False) -> dict[str, pulumi.Output[str]]:
        """Return a certificate and its key, as a Secret of type kubernetes.io/tls has them, with the authority's own.

        Args:
            name: whose it is, as common name.
            hosts: DNS names that it is good for.
            client: the server is a client too, of others that ask for a certificate.
        """
        return {
            "ca.crt": self.certificate,
            "tls.crt": self._seed.apply(lambda seed: pem(issued(seed, name, hosts, client=client))),
            "tls.key": pulumi.Output.secret(self._seed.apply(lambda seed: key_pem(derived_key(seed, name)))),
        }


def derived_key(seed: str, name: str) -> ec.EllipticCurvePrivateKey:
    """The private key of a name."""
    wide = HKDF(hashes.SHA256(), length=48, salt=None, info=f"estate:{name}".encode()).derive(seed.encode())
    return ec.derive_private_key(int.from_bytes(wide) % (CURVE.group_order - 1) + 1, CURVE)


def authority(seed: str) -> x509.Certificate:
    """The authority's own certificate."""
    builder = (
        certificate(seed, "estate")
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(key_usage(key_cert_sign=True, crl_sign=True), critical=True)
    )
    return signed(builder, seed)


def issued(seed: str, name: str, hosts: Sequence[str], *, client: bool = False) -> x509.Certificate:
    """Return the certificate of a server, with which it can be a client only where that is said."""
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
    """Return what every certificate has; its serial number follows from its name and from what differs between two of that name."""
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
    """The certificate, signed by the authority."""
    return builder.sign(derived_key(seed, "estate"), hashes.SHA256(), ecdsa_deterministic=True)


def distinguished(name: str) -> x509.Name:
    """A name of a common name alone."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def key_usage(*, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False) -> x509.KeyUsage:
    """The few usages that there are here."""
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
    """A certificate as PEM."""
    return of.public_bytes(serialization.Encoding.PEM).decode()


def key_pem(of: ec.EllipticCurvePrivateKey) -> str:
    """A private key as PEM (PKCS #8)."""
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return of.private_bytes(encoding, form, serialization.NoEncryption()).decode()
