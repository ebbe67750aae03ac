"""Every certificate that the program creates, verified the way its clients verify it."""

from contextlib import nullcontext
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from estate.pulumi.program import run_program
from infra.authority import NOT_AFTER, NOT_BEFORE
from tests.program.test_program import kind

SERVER, CLIENT = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH
PURPOSES = {
    "postgres": [SERVER],
    "postgres-server": [SERVER],
    "consul": [SERVER, CLIENT],
    "consul-server": [SERVER, CLIENT],
}
"""Extended key usages by the Secret that holds the certificate: members of a Consul cluster require one of each other."""


def text(inputs: dict[str, Any]) -> dict[str, str]:
    """Return the content of a Secret, which Pulumi may have marked as secret."""
    content: dict[str, Any] = inputs.get("stringData") or {}
    return content.get("value", content)


def made() -> dict[str, dict[str, str]]:
    """Return the Secrets with certificates of every kind of stack, by their names."""
    resources = [each for stack in ("local", "staging") for each in run_program(stack) if kind(each) == "Secret"]
    return {each.name: text(each.inputs) for each in resources if "tls.crt" in text(each.inputs)}


def certificate(pem: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem.encode())


def test_each_is_for_what_it_is_used_for_and_nothing_else() -> None:
    found = {name: certificate(files["tls.crt"]) for name, files in made().items()}
    usages = {
        name: list(each.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) for name, each in found.items()
    }
    assert usages == {name: PURPOSES[name] for name in found}
    assert len(found) >= 4


def test_each_is_verified_by_its_authority_for_its_names_and_no_other() -> None:
    for name, files in made().items():
        server = certificate(files["tls.crt"])
        policy = PolicyBuilder().store(Store([certificate(files["ca.crt"])]))
        hosts = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        for host in hosts.get_values_for_type(x509.DNSName):
            policy.build_server_verifier(x509.DNSName(host)).verify(server, [])
        with pytest.raises(VerificationError):
            policy.build_server_verifier(x509.DNSName("api.example.com")).verify(server, [])
        as_client = nullcontext() if CLIENT in PURPOSES[name] else pytest.raises(VerificationError)
        with as_client:
            policy.build_client_verifier().verify(server, [])


def test_authorities_only_sign_and_nothing_outlives_them() -> None:
    for name, files in made().items():
        server, authority = certificate(files["tls.crt"]), certificate(files["ca.crt"])
        assert {(each.not_valid_before_utc, each.not_valid_after_utc) for each in (server, authority)} == {
            (NOT_BEFORE, NOT_AFTER)
        }, name
        usage = authority.extensions.get_extension_for_class(x509.KeyUsage).value
        assert (usage.key_cert_sign, usage.crl_sign, usage.digital_signature) == (True, True, False), name
        limits = authority.extensions.get_extension_for_class(x509.BasicConstraints).value
        assert (limits.ca, limits.path_length) == (True, 0), name
