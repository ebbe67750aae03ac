import hmac
from base64 import b64decode

from infra.scram import stored, verifier

AUTH_MESSAGE = (
    "n=user,r=rOprNGfwEbeRWgbNEkqO,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
    "s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
)
SIGNATURE = "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


def test_the_server_signs_as_in_the_rfcs_example() -> None:
    made = stored("pencil", b64decode("W22ZaJ0SNY7soEsUEjb6gQ=="))
    assert made.startswith("SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$")
    server_key = b64decode(made.rpartition(":")[2])
    assert hmac.digest(server_key, AUTH_MESSAGE.encode(), "sha256") == b64decode(SIGNATURE)


def test_a_login_has_one_verifier_for_a_password_and_another_login_another() -> None:
    assert verifier("a", "password", "key") == verifier("a", "password", "key")
    assert verifier("a", "password", "key").split("$")[1] != verifier("b", "password", "key").split("$")[1]
    assert verifier("a", "password", "key").split("$")[1] != verifier("a", "password", "other").split("$")[1]
