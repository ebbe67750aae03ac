from pathlib import Path

import pytest
from servicekit.settings import SettingsError, load, load_or_exit
from user_service.settings import UserSettings

NAMED = {"APP_SERVICE_NAME": "user-service"}


def write(folder: Path, text: str) -> tuple[Path, ...]:
    (folder / "config.yaml").write_text(text)
    return (folder,)


def test_the_defaults_are_the_references(tmp_path: Path) -> None:
    settings = load(UserSettings, NAMED, (tmp_path,))
    assert settings.server.port == 8080
    assert settings.database.host == "localhost"


def test_the_environment_wins_over_the_file_and_the_file_over_the_defaults(tmp_path: Path) -> None:
    folders = write(tmp_path, "server: {port: 9000}\ndatabase: {host: file}\nservice: {name: x}\n")
    settings = load(UserSettings, {"APP_DATABASE_HOST": "env"}, folders)
    assert (settings.server.port, settings.database.host) == (9000, "env")


def test_the_first_file_found_is_the_one(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    for folder, port in ((first, 1), (second, 2)):
        folder.mkdir()
        write(folder, f"server: {{port: {port}}}\nservice: {{name: x}}\n")
    assert load(UserSettings, {}, (tmp_path / "none", first, second)).server.port == 1


def test_a_nested_key_is_reached_from_the_environment(tmp_path: Path) -> None:
    environment = NAMED | {"APP_SERVICE_REGISTRY_ADDRESS": "consul:8500", "APP_DATABASE_POOL_SIZE": "7"}
    settings = load(UserSettings, environment, (tmp_path,))
    assert (settings.service.registry.address, settings.database.pool.size) == ("consul:8500", 7)


def test_another_key_of_a_table_leaves_the_defaults_of_the_service(tmp_path: Path) -> None:
    settings = load(UserSettings, {"APP_SERVICE_ADDRESS": "10.0.0.1"}, (tmp_path,))
    assert (settings.service.name, settings.service.address) == ("user-service", "10.0.0.1")


def test_a_secret_comes_from_a_file(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("hunter2\n")
    settings = load(UserSettings, NAMED | {"APP_DATABASE_PASSWORD_FILE": str(secret)}, ())
    assert settings.database.password.get_secret_value() == "hunter2"
    assert "hunter2" not in repr(settings)


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"APP_SERVER_PORT": "http"}, r"server.port: .*not 'http' \(from APP_SERVER_PORT\)"),
        ({"APP_SERVER_PORT": "70000"}, r"server.port: .*less than or equal to 65535"),
        ({"APP_DATABASE_PASSWORD_FILE": "/nowhere"}, "APP_DATABASE_PASSWORD_FILE: /nowhere cannot be read"),
    ],
)
def test_a_wrong_value_is_named_with_its_key_and_source(environment: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        load(UserSettings, NAMED | environment, ())


def test_an_unknown_key_in_the_file_is_named_with_the_file(tmp_path: Path) -> None:
    folders = write(tmp_path, "server: {prot: 1}\nservice: {name: x}\n")
    with pytest.raises(SettingsError, match=r"server.prot: .* \(from .*config.yaml\)"):
        load(UserSettings, {}, folders)


def test_a_wrong_secret_is_not_shown() -> None:
    with pytest.raises(SettingsError) as refused:
        load(UserSettings, NAMED | {"APP_DATABASE_PASSWORD": "hunter2", "APP_DATABASE_PORT": "x"}, ())
    assert "hunter2" not in str(refused.value)


def test_the_configuration_is_printed_with_secrets_masked(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        load_or_exit(UserSettings, {"APP_DATABASE_PASSWORD": "hunter2", "APP_SERVER_PORT": "9000"}, ["--print-config"])
    printed = capsys.readouterr().out
    assert ended.value.code == 0
    assert "port: 9000" in printed
    assert "password: '**********'" in printed
    assert "hunter2" not in printed
