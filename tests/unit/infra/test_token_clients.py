from api_gateway.issuing import matches, parse_clients

from infra.settings.auth import OPERATOR, ClientSettings
from infra.token_clients import hashed, rendered

BILLING = ClientSettings(id="billing", secret_hash=hashed("its secret", "billing"), user_id=7, username="Billing")


def test_the_gateway_reads_the_operator_and_all_others() -> None:
    clients = parse_clients(rendered("the operator's", [BILLING]))
    assert clients.keys() == {OPERATOR, "billing"}
    assert matches(clients[OPERATOR].secret_hash, "the operator's")
    assert matches(clients["billing"].secret_hash, "its secret")
    assert (clients["billing"].user_id, clients["billing"].username) == (7, "Billing")


def test_a_hash_fits_one_secret_only() -> None:
    assert not matches(hashed("its secret", "billing"), "another")


def test_another_run_of_the_program_makes_the_same_file() -> None:
    assert rendered("secret", [BILLING]) == rendered("secret", [BILLING])


def test_clients_of_one_secret_have_hashes_that_do_not_tell() -> None:
    assert hashed("same", "billing") != hashed("same", "shipping")


def test_no_secret_is_in_the_file() -> None:
    assert "the operator's" not in rendered("the operator's", [BILLING])
